/*
 * The guest agent: one static program with four uses.
 *
 *   agent init SOCKET     process 1 of a workspace's container
 *   agent which NAME...   where the image has these programs
 *   snapshot ...          the same file under this name: what people type inside
 *   workspaces-sftp TEXT  and under this one: the image's sftp-server, or the guest's; TEXT is said without either
 */
#include "agent.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;

	const char *name = argc ? (slash ? slash + 1 : argv[0]) : "";

	if (strcmp(name, "snapshot") == 0)
		return snapshot_main(argc, argv);
	if (strcmp(name, "workspaces-sftp") == 0)
		return sftp_main(argc, argv);
	if (argc == 3 && strcmp(argv[1], "init") == 0)
		return init_main(argv[2]);
	if (argc >= 3 && strcmp(argv[1], "which") == 0)
		return which_main(argc - 2, argv + 2);
	fputs("usage: agent init SOCKET | agent which NAME...\n", stderr);
	return 2;
}
