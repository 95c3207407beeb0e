/*
 * Reads packets, one a line in hexadecimal, and prints what each says, or `invalid`, as tests/support/guest_text.py
 * does for the same packets. Linked with the agent's own codec.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

static void print_quoted(const char *text)
{
	putchar('"');
	for (const unsigned char *byte = (const unsigned char *)text; *byte; byte++) {
		if (*byte >= 32 && *byte < 127 && *byte != '"' && *byte != '\\')
			putchar(*byte);
		else
			printf("\\x%02x", *byte);
	}
	putchar('"');
}

static void print_text(const char *name, const char *text)
{
	printf(" %s=", name);
	print_quoted(text);
}

static void print_list(const char *name, unsigned count, const char *const *texts)
{
	printf(" %s=[", name);
	for (unsigned i = 0; i < count; i++) {
		if (i)
			putchar(',');
		print_quoted(texts[i]);
	}
	putchar(']');
}

static void print_size(const char *name, const struct term_size *size)
{
	printf(" %s=%ux%u+%u+%u", name, size->columns, size->rows, size->xpixels, size->ypixels);
}

static void print_spawn(const struct message *message)
{
	printf("spawn kind=%u", message->kind);
	print_text("user", message->user);
	print_text("cwd", message->cwd);
	print_list("args", message->argc, message->argv);
	print_list("env", message->envc, message->env);
	if (!message->pty)
		return;
	print_size("terminal", &message->size);
	printf(" modes=[");
	for (unsigned i = 0; i < message->modec; i++)
		printf("%s%u:%u", i ? "," : "", message->modes[i].opcode, message->modes[i].value);
	putchar(']');
}

static void print_target(const char *name, const struct message *message)
{
	printf("%s kind=%u", name, message->kind);
	print_text("user", message->user);
	print_text("host", message->host);
	printf(" port=%u", message->port);
}

static void print_message(const struct message *message)
{
	switch (message->type) {
	case MSG_SPAWN:
		print_spawn(message);
		break;
	case MSG_CONNECT:
		print_target("connect", message);
		break;
	case MSG_LISTEN:
		print_target("listen", message);
		break;
	case MSG_ATTEND:
		printf("attend");
		break;
	case MSG_RESIZE:
		printf("resize");
		print_size("size", &message->size);
		break;
	case MSG_SIGNAL:
		printf("signal");
		print_text("name", message->text);
		break;
	case MSG_ACCEPT:
		printf("accept id=%u", message->id);
		break;
	case MSG_REJECT:
		printf("reject id=%u", message->id);
		break;
	case MSG_ANSWER:
		printf("answer id=%u status=%u", message->id, message->status);
		print_text("text", message->text);
		break;
	case MSG_ASK:
		printf("ask");
		print_text("kind", message->text);
		print_list("args", message->argc, message->argv);
		break;
	case MSG_FAILED:
		printf("failed errno=%u", message->id);
		print_text("text", message->text);
		break;
	case MSG_ANSWERED:
		printf("answered status=%u", message->status);
		print_text("text", message->text);
		break;
	}
}

int main(void)
{
	static char line[2 * MESSAGE_MAX + 64];
	static struct message message;

	while (fgets(line, sizeof(line), stdin)) {
		size_t length = strcspn(line, "\n") / 2;
		uint8_t *packet = malloc(length ? length : 1); /* exactly: the sanitizer sees each byte read past its end */

		for (size_t i = 0; i < length; i++) {
			unsigned byte;

			sscanf(line + 2 * i, "%2x", &byte);
			packet[i] = (uint8_t)byte;
		}
		if (message_parse(packet, length, &message))
			printf("invalid");
		else
			print_message(&message);
		putchar('\n');
		free(packet);
	}
	return 0;
}
