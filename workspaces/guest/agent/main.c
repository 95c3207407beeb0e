/*
 * The guest agent: one static program with three uses.
 *
 *   agent init SOCKET     process 1 of a workspace's container
 *   agent which NAME...   where the image has these programs
 *   snapshot ...          the same file under this name: what people type inside
 */
#include "agent.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;

	if (argc && strcmp(slash ? slash + 1 : argv[0], "snapshot") == 0)
		return snapshot_main(argc, argv);
	if (argc == 3 && strcmp(argv[1], "init") == 0)
		return init_main(argv[2]);
	if (argc >= 3 && strcmp(argv[1], "which") == 0)
		return which_main(argc - 2, argv + 2);
	fputs("usage: agent init SOCKET | agent which NAME...\n", stderr);
	return 2;
}
