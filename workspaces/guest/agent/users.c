/* See users.h. The files are hostile: other than regular ones are not read, and 1 MiB of each is looked at. */
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

enum { FILE_BYTES = 1024 * 1024, FIELDS = 7 };

static bool parse_id(const char *text, uint32_t *id)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value >= UINT32_MAX)
			return false;
	}
	*id = (uint32_t)value;
	return true;
}

/* Cuts the next line out of `*rest` at colons; gives the number of its fields, -1 at the end. */
static int next_fields(char **rest, char *fields[FIELDS])
{
	char *line = strsep(rest, "\n");
	int count = 0;

	if (!line)
		return -1;
	while (count < FIELDS && line)
		fields[count++] = strsep(&line, ":");
	return count;
}

static bool copy_field(char *target, size_t size, const char *source)
{
	size_t length = strlen(source);

	if (length >= size)
		return false;
	memcpy(target, source, length + 1);
	return true;
}

static void find_groups(struct user *user)
{
	char *content = read_regular("/etc/group", FILE_BYTES);
	char *rest = content;
	char *fields[FIELDS];
	int count;

	user->groups[0] = user->gid;
	user->group_count = 1;
	while ((count = next_fields(&rest, fields)) >= 0 && user->group_count < GROUPS_MAX) {
		char *members, *member;
		uint32_t gid;

		if (count < 4 || !parse_id(fields[2], &gid) || gid == user->gid)
			continue;
		members = fields[3];
		while ((member = strsep(&members, ","))) {
			if (strcmp(member, user->name) == 0) {
				user->groups[user->group_count++] = gid;
				break;
			}
		}
	}
	free(content);
}

static bool take_entry(struct user *user, char *fields[FIELDS])
{
	uint32_t uid, gid;

	if (!parse_id(fields[2], &uid) || !parse_id(fields[3], &gid))
		return false;
	user->uid = uid;
	user->gid = gid;
	return copy_field(user->name, sizeof(user->name), fields[0]) &&
	       copy_field(user->home, sizeof(user->home), fields[5]) &&
	       copy_field(user->shell, sizeof(user->shell), fields[6]);
}

bool user_find(const char *name, struct user *user)
{
	/* Without root's rights (the fast tests) everyone is whoever runs the agent. */
	bool myself = geteuid() != 0;
	char *content = read_regular("/etc/passwd", FILE_BYTES);
	char *rest = content;
	char *fields[FIELDS];
	bool found = false;
	int count;

	memset(user, 0, sizeof(*user));
	while (!found && (count = next_fields(&rest, fields)) >= 0) {
		uint32_t uid;

		if (count != FIELDS || !parse_id(fields[2], &uid))
			continue;
		if (myself ? uid == geteuid() : strcmp(fields[0], name) == 0)
			found = take_entry(user, fields);
	}
	free(content);
	if (!found && (myself || strcmp(name, "root") == 0)) {
		*user = (struct user){.uid = geteuid(), .gid = getegid(), .home = "/root"};
		found = copy_field(user->name, sizeof(user->name), name);
	}
	if (!found)
		return false;
	if (!user->home[0])
		strcpy(user->home, "/");
	if (!user->shell[0])
		strcpy(user->shell, "/bin/sh");
	if (!myself)
		find_groups(user);
	return true;
}

/* The kernel refuses the whole list for one group that the container's user namespace does not have. */
static bool take_groups(const struct user *user)
{
	gid_t groups[GROUPS_MAX];
	size_t count = 0;

	if (setgroups((size_t)user->group_count, user->groups) == 0)
		return true;
	if (errno != EINVAL)
		return false;
	for (int i = 0; i < user->group_count; i++)
		if (setgroups(1, &user->groups[i]) == 0)
			groups[count++] = user->groups[i];
	return setgroups(count, groups) == 0;
}

bool user_become(const struct user *user)
{
	if (geteuid() != 0)
		return true;
	return take_groups(user) && setresgid(user->gid, user->gid, user->gid) == 0 &&
	       setresuid(user->uid, user->uid, user->uid) == 0;
}
