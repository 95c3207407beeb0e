/*
 * The messages between gateway, agent and `snapshot`, one to a SOCK_SEQPACKET packet: bytes to struct message and
 * back, without any I/O. workspaces/guest/protocol.py is the same codec in Python and holds the description of the
 * format; tests/data/agent_vectors.txt is the examples that both must agree on.
 *
 * A parsed message points into the packet it was parsed from, which must outlive it.
 */
#ifndef CODEC_H
#define CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROTOCOL = 1,
	MESSAGE_MAX = 192 * 1024, /* bytes of a whole message */
	STRING_MAX = 128 * 1024 - 1, /* what the kernel takes as one argument */
	ARGS_MAX = 1024,
	ENV_MAX = 1024,
	MODES_MAX = 256,
	ASK_ARGS_MAX = 64,
	ASK_BYTES_MAX = 16 * 1024, /* all arguments of an ask, and the text of an answer */
};

enum message_type {
	MSG_SPAWN = 1,
	MSG_CONNECT,
	MSG_LISTEN,
	MSG_ATTEND,
	MSG_RESIZE,
	MSG_SIGNAL,
	MSG_ACCEPT,
	MSG_REJECT,
	MSG_ANSWER,
	MSG_ASK,
	MSG_STARTED = 129,
	MSG_EXITED,
	MSG_KILLED,
	MSG_FAILED,
	MSG_CONNECTED,
	MSG_LISTENING,
	MSG_INCOMING,
	MSG_ATTENDING,
	MSG_ASKED,
	MSG_ANSWERED,
};

enum spawn_kind { SPAWN_LOGIN, SPAWN_COMMAND, SPAWN_ARGV };
enum target_kind { TARGET_TCP, TARGET_UNIX, TARGET_PRIVATE };

struct term_size {
	uint16_t columns, rows, xpixels, ypixels;
};

struct term_mode {
	uint8_t opcode; /* RFC 4254, section 8 */
	uint32_t value;
};

struct message {
	uint8_t type;
	uint8_t kind; /* enum spawn_kind or enum target_kind */
	uint8_t status;
	bool pty;
	uint16_t port;
	uint32_t id; /* also the errno of `failed` */
	const char *user, *cwd, *host, *text; /* host: a name, an address, or a unix socket's path */
	struct term_size size;
	uint32_t argc, envc, modec;
	const char *argv[ARGS_MAX + 1];
	const char *env[ENV_MAX + 1]; /* NAME=value */
	struct term_mode modes[MODES_MAX];
};

/* Parses what the agent or `snapshot` may receive. NULL, or in a few words what is wrong. */
const char *message_parse(const uint8_t *packet, size_t length, struct message *message);

/* Builds a message in a buffer of the caller's; `overflow` is set instead of writing past its end. */
struct writer {
	uint8_t *bytes;
	size_t length, capacity;
	bool overflow;
};

void write_start(struct writer *writer, uint8_t *buffer, size_t capacity, enum message_type type);
void write_u8(struct writer *writer, uint8_t value);
void write_u16(struct writer *writer, uint16_t value);
void write_u32(struct writer *writer, uint32_t value);
void write_string(struct writer *writer, const char *text);
void write_strings(struct writer *writer, uint32_t count, const char *const *texts);

#endif
