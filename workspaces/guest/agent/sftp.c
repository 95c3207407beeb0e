/*
 * `workspaces-sftp TEXT`: becomes the image's sftp-server; else the host's, which lies beside this program with its
 * loader and libraries, so that it runs in images of any libc, or none; else says TEXT.
 *
 *   guest/bin/workspaces-sftp ─► ../agent      guest/sftp/ ld.so, lib*.so.*, sftp-server, passwd.so
 */
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "io.h"

static const char *const places[] = {
	"/usr/lib/openssh/sftp-server",
	"/usr/lib/ssh/sftp-server",
	"/usr/libexec/openssh/sftp-server",
	"/usr/libexec/sftp-server",
};

/* Returns when there is none. */
static void try_guest(void)
{
	char guest[PATH_MAX], loader[PATH_MAX + 32], libraries[PATH_MAX + 32], preload[PATH_MAX + 32], server[PATH_MAX + 32];
	char *argv[] = {loader, "--inhibit-cache", "--library-path", libraries, "--preload", preload, server, NULL};

	own_directory(guest, sizeof(guest));
	snprintf(libraries, sizeof(libraries), "%s/sftp", guest);
	snprintf(loader, sizeof(loader), "%s/sftp/ld.so", guest);
	snprintf(preload, sizeof(preload), "%s/sftp/passwd.so", guest);
	snprintf(server, sizeof(server), "%s/sftp/sftp-server", guest);
	execv(loader, argv);
}

int sftp_main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		execl(places[i], places[i], (char *)NULL); /* returns where it is not there, or lacks its loader */
	try_guest();
	if (argc > 1)
		fprintf(stderr, "%s\n", argv[1]);
	return 127;
}
