/*
 * `agent which NAME...`: a line `NAME<TAB>PATH` for each; PATH is empty for what neither the image has nor, for
 * sftp-server, the guest.
 */
#include "agent.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

static const char *const places[] = {
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",	 "/usr/bin",		 "/sbin",
	"/bin",		   "/usr/lib/ssh",   "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec",
};

static bool is_program(const char *path)
{
	struct stat status;

	return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

int which_main(int argc, char **argv)
{
	char guest[PATH_MAX];

	own_directory(guest, sizeof(guest));
	for (int i = 0; i < argc; i++) {
		char path[PATH_MAX + 512] = "";
		bool found = false;

		for (size_t j = 0; j < sizeof(places) / sizeof(places[0]) && !found; j++) {
			snprintf(path, sizeof(path), "%s/%s", places[j], argv[i]);
			found = is_program(path);
		}
		if (!found && strcmp(argv[i], "sftp-server") == 0) {
			snprintf(path, sizeof(path), "%s/sftp/%s", guest, argv[i]);
			found = is_program(path);
		}
		printf("%s\t%s\n", argv[i], found ? path : "");
	}
	return fflush(stdout) ? 1 : 0;
}
