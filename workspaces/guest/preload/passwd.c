/*
 * Loaded into the guest's sftp-server, which refuses to run for a user without an entry in /etc/passwd: images
 * may be without one, and the agent has said by HOME, USER and SHELL who it is.
 */
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

static char *value(const char *name, char *otherwise)
{
	char *found = getenv(name);

	return found && *found ? found : otherwise;
}

struct passwd *getpwuid(uid_t uid)
{
	static char buffer[16 * 1024];
	static struct passwd entry;
	struct passwd *found = NULL;

	if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
		return found;
	if (uid != getuid())
		return NULL;
	entry = (struct passwd){
		.pw_name = value("USER", "root"),
		.pw_passwd = "*",
		.pw_uid = uid,
		.pw_gid = getgid(),
		.pw_gecos = "",
		.pw_dir = value("HOME", "/"),
		.pw_shell = value("SHELL", "/bin/sh"),
	};
	return &entry;
}
