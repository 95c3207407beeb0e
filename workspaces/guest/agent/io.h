/* Small things around descriptors that several parts need. */
#ifndef IO_H
#define IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

bool set_blocking(int fd, bool blocking);

/* The start of a regular file as a string to free, NULL for anything else. Never blocks on a FIFO or device. */
char *read_regular(const char *path, size_t limit);

/* Closes all descriptors from `lowest` up. */
void close_from(int lowest);

/* The directory of this program, empty where /proc cannot tell. */
void own_directory(char *path, size_t size);

/* False when the path does not fit. */
bool unix_address(const char *path, struct sockaddr_un *address);

/* One packet with up to `capacity` descriptors in `fds`, all close-on-exec; `*count` says how many came. */
ssize_t receive_packet(int fd, void *buffer, size_t size, int *fds, int capacity, int *count, bool *truncated);

/* One packet, with `passed` unless that is -1. Never blocks. */
bool send_packet(int fd, const void *buffer, size_t size, int passed);

#endif
