/* The accounts of the image, read from its own files: a static program has no name service. */
#ifndef USERS_H
#define USERS_H

#include <stdbool.h>
#include <sys/types.h>

enum { GROUPS_MAX = 64 };

struct user {
	uid_t uid;
	gid_t gid;
	char name[64];
	char home[256];
	char shell[256];
	gid_t groups[GROUPS_MAX];
	int group_count;
};

/*
 * These read files of the image, which may block: only forked children call them. user_find gives false when there
 * is no such user; an image without /etc/passwd still has root. user_become gives false with errno.
 */
bool user_find(const char *name, struct user *user);
bool user_become(const struct user *user);

#endif
