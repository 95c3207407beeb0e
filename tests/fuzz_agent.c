/*
 * libFuzzer harness for the parser of the agent's messages: whatever parses must be usable as it is, and must be the
 * only way to write what it says.
 */
#include <stdlib.h>
#include <string.h>

#include "codec.h"

static void write_size(struct writer *writer, const struct term_size *size)
{
	write_u16(writer, size->columns);
	write_u16(writer, size->rows);
	write_u16(writer, size->xpixels);
	write_u16(writer, size->ypixels);
}

static void write_spawn(struct writer *writer, const struct message *message)
{
	write_u8(writer, message->kind);
	write_string(writer, message->user);
	write_string(writer, message->cwd);
	write_strings(writer, message->argc, message->argv);
	write_strings(writer, message->envc, message->env);
	write_u8(writer, message->pty);
	if (!message->pty)
		return;
	write_size(writer, &message->size);
	write_u16(writer, (uint16_t)message->modec);
	for (uint32_t i = 0; i < message->modec; i++) {
		write_u8(writer, message->modes[i].opcode);
		write_u32(writer, message->modes[i].value);
	}
}

static void write_message(struct writer *writer, const struct message *message)
{
	switch (message->type) {
	case MSG_SPAWN:
		write_spawn(writer, message);
		break;
	case MSG_CONNECT:
	case MSG_LISTEN:
		write_u8(writer, message->kind);
		write_string(writer, message->user);
		write_string(writer, message->host);
		write_u16(writer, message->port);
		break;
	case MSG_RESIZE:
		write_size(writer, &message->size);
		break;
	case MSG_SIGNAL:
		write_string(writer, message->text);
		break;
	case MSG_ACCEPT:
	case MSG_REJECT:
		write_u32(writer, message->id);
		break;
	case MSG_ANSWER:
		write_u32(writer, message->id);
		write_u8(writer, message->status);
		write_string(writer, message->text);
		break;
	case MSG_ASK:
		write_string(writer, message->text);
		write_strings(writer, message->argc, message->argv);
		break;
	case MSG_FAILED:
		write_u32(writer, message->id);
		write_string(writer, message->text);
		break;
	case MSG_ANSWERED:
		write_u8(writer, message->status);
		write_string(writer, message->text);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message message;
	static uint8_t again[MESSAGE_MAX + 1];
	struct writer writer;

	if (message_parse(data, size, &message))
		return 0;
	if (message.argv[message.argc] || message.env[message.envc])
		abort();
	write_start(&writer, again, sizeof(again), message.type);
	write_message(&writer, &message);
	if (writer.overflow || writer.length != size || memcmp(again, data, size) != 0)
		abort();
	return 0;
}
