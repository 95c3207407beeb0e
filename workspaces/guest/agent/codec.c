/*
 * See codec.h. Strict: every length is checked against what is left, strings hold no NUL, nothing may follow the
 * last field, and each count has a limit, so a parsed message can be used without another look.
 */
#include "codec.h"

#include <string.h>

struct reader {
	const uint8_t *next;
	size_t left;
	const char *error;
};

static void fail(struct reader *reader, const char *error)
{
	if (!reader->error)
		reader->error = error;
	reader->left = 0;
}

static uint32_t read_number(struct reader *reader, unsigned bytes)
{
	uint32_t value = 0;

	if (reader->left < bytes) {
		fail(reader, "it is cut short");
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | reader->next[i];
	reader->next += bytes;
	reader->left -= bytes;
	return value;
}

static uint8_t read_u8(struct reader *reader)
{
	return (uint8_t)read_number(reader, 1);
}

static uint16_t read_u16(struct reader *reader)
{
	return (uint16_t)read_number(reader, 2);
}

static uint32_t read_u32(struct reader *reader)
{
	return read_number(reader, 4);
}

/* Strings carry a NUL after their last byte, so that they are used where they lie. */
static const char *read_string(struct reader *reader)
{
	uint32_t length = read_u32(reader);
	const char *text = (const char *)reader->next;

	if (reader->error)
		return "";
	if (length > STRING_MAX) {
		fail(reader, "a string is too long");
		return "";
	}
	if (reader->left < (size_t)length + 1) {
		fail(reader, "it is cut short");
		return "";
	}
	if (text[length] != 0 || memchr(text, 0, length)) {
		fail(reader, "a string is not ended by its only NUL");
		return "";
	}
	reader->next += (size_t)length + 1;
	reader->left -= (size_t)length + 1;
	return text;
}

static uint32_t read_count(struct reader *reader, uint32_t limit)
{
	uint32_t count = read_u16(reader);

	if (count > limit) {
		fail(reader, "a list is too long");
		return 0;
	}
	return count;
}

static uint32_t read_strings(struct reader *reader, uint32_t limit, const char **texts)
{
	uint32_t count = read_count(reader, limit);

	for (uint32_t i = 0; i < count; i++)
		texts[i] = read_string(reader);
	texts[count] = NULL;
	return count;
}

static bool read_bool(struct reader *reader)
{
	uint8_t value = read_u8(reader);

	if (value > 1)
		fail(reader, "a flag is neither 0 nor 1");
	return value == 1;
}

static struct term_size read_size(struct reader *reader)
{
	struct term_size size;

	size.columns = read_u16(reader);
	size.rows = read_u16(reader);
	size.xpixels = read_u16(reader);
	size.ypixels = read_u16(reader);
	return size;
}

static void read_spawn(struct reader *reader, struct message *message)
{
	message->kind = read_u8(reader);
	message->user = read_string(reader);
	message->cwd = read_string(reader);
	message->argc = read_strings(reader, ARGS_MAX, message->argv);
	message->envc = read_strings(reader, ENV_MAX, message->env);
	message->pty = read_bool(reader);
	if (message->pty) {
		message->size = read_size(reader);
		message->modec = read_count(reader, MODES_MAX);
		for (uint32_t i = 0; i < message->modec; i++) {
			message->modes[i].opcode = read_u8(reader);
			message->modes[i].value = read_u32(reader);
		}
	}
	if (reader->error)
		return;
	if (message->kind > SPAWN_ARGV)
		fail(reader, "the kind of spawn is unknown");
	else if ((message->kind == SPAWN_LOGIN && message->argc != 0) ||
		 (message->kind == SPAWN_COMMAND && message->argc != 1) ||
		 (message->kind == SPAWN_ARGV && message->argc == 0))
		fail(reader, "the arguments do not fit the kind of spawn");
	for (uint32_t i = 0; i < message->envc; i++) {
		const char *equals = strchr(message->env[i], '=');

		if (!equals || equals == message->env[i])
			fail(reader, "an environment entry is not NAME=value");
	}
}

static void read_target(struct reader *reader, struct message *message)
{
	message->kind = read_u8(reader);
	message->user = read_string(reader);
	message->host = read_string(reader);
	message->port = read_u16(reader);
	if (!reader->error && message->kind > TARGET_PRIVATE)
		fail(reader, "the kind of target is unknown");
	if (!reader->error && message->kind != TARGET_TCP && message->port != 0)
		fail(reader, "a unix socket has no port");
}

static void read_ask(struct reader *reader, struct message *message)
{
	size_t bytes = 0;

	message->text = read_string(reader);
	message->argc = read_strings(reader, ASK_ARGS_MAX, message->argv);
	for (uint32_t i = 0; i < message->argc; i++)
		bytes += strlen(message->argv[i]);
	if (bytes > ASK_BYTES_MAX || strlen(message->text) > 32)
		fail(reader, "the ask is too long");
}

static void read_text(struct reader *reader, struct message *message)
{
	message->text = read_string(reader);
	if (strlen(message->text) > ASK_BYTES_MAX)
		fail(reader, "the text is too long");
}

const char *message_parse(const uint8_t *packet, size_t length, struct message *message)
{
	struct reader reader = {packet, length, NULL};

	/* The big arrays stay as they are: their counts say what of them is meant. */
	memset(message, 0, offsetof(struct message, argv));
	message->user = message->cwd = message->host = message->text = "";
	message->argv[0] = message->env[0] = NULL;
	if (length > MESSAGE_MAX)
		return "it is too long";
	if (read_u8(&reader) != PROTOCOL && !reader.error)
		return "it is of another version of the protocol";
	message->type = read_u8(&reader);
	switch (message->type) {
	case MSG_SPAWN:
		read_spawn(&reader, message);
		break;
	case MSG_CONNECT:
	case MSG_LISTEN:
		read_target(&reader, message);
		break;
	case MSG_ATTEND:
		break;
	case MSG_RESIZE:
		message->size = read_size(&reader);
		break;
	case MSG_SIGNAL:
		message->text = read_string(&reader);
		break;
	case MSG_ACCEPT:
	case MSG_REJECT:
		message->id = read_u32(&reader);
		break;
	case MSG_ANSWER:
		message->id = read_u32(&reader);
		message->status = read_u8(&reader);
		read_text(&reader, message);
		break;
	case MSG_ASK:
		read_ask(&reader, message);
		break;
	case MSG_FAILED:
		message->id = read_u32(&reader);
		read_text(&reader, message);
		break;
	case MSG_ANSWERED:
		message->status = read_u8(&reader);
		read_text(&reader, message);
		break;
	default:
		fail(&reader, "its type is unknown");
	}
	if (!reader.error && reader.left)
		return "something follows its end";
	return reader.error;
}

static void write_bytes(struct writer *writer, const void *bytes, size_t length)
{
	if (writer->overflow || length > writer->capacity - writer->length) {
		writer->overflow = true;
		return;
	}
	memcpy(writer->bytes + writer->length, bytes, length);
	writer->length += length;
}

void write_u8(struct writer *writer, uint8_t value)
{
	write_bytes(writer, &value, 1);
}

void write_u16(struct writer *writer, uint16_t value)
{
	write_u8(writer, (uint8_t)(value >> 8));
	write_u8(writer, (uint8_t)value);
}

void write_u32(struct writer *writer, uint32_t value)
{
	write_u16(writer, (uint16_t)(value >> 16));
	write_u16(writer, (uint16_t)value);
}

void write_string(struct writer *writer, const char *text)
{
	size_t length = strlen(text);

	if (length > STRING_MAX) {
		writer->overflow = true;
		return;
	}
	write_u32(writer, (uint32_t)length);
	write_bytes(writer, text, length + 1);
}

void write_strings(struct writer *writer, uint32_t count, const char *const *texts)
{
	write_u16(writer, (uint16_t)count);
	for (uint32_t i = 0; i < count; i++)
		write_string(writer, texts[i]);
}

void write_start(struct writer *writer, uint8_t *buffer, size_t capacity, enum message_type type)
{
	*writer = (struct writer){.bytes = buffer, .capacity = capacity};
	write_u8(writer, PROTOCOL);
	write_u8(writer, (uint8_t)type);
}
