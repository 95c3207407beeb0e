/*
 * Asks: `snapshot` inside says what it wants, the gateway that attends answers.
 *
 *   snapshot ──ask──► agent ──asked──► gateway ──answer──► agent ──answered──► snapshot
 *
 * The agent only carries; it adds who asks, as the kernel knows it. Of several gateways the latest is asked.
 */
#include "agent.h"

#include <errno.h>
#include <stddef.h>

enum { ANSWER_MS = 60000 };

struct asker {
	uint32_t id; /* 0: this place is free */
	struct conn *conn, *attendant;
	struct timer deadline;
};

static struct asker askers[ASKERS_MAX];
static struct conn *attendants[ATTENDANTS_MAX]; /* oldest first, NULL after the last */
static uint32_t last_id;

static struct asker *asker_find(uint32_t id)
{
	for (int i = 0; i < ASKERS_MAX; i++)
		if (askers[i].id == id)
			return &askers[i];
	return NULL;
}

static void asker_late(struct timer *timer)
{
	conn_fail(CONTAINER_OF(timer, struct asker, deadline)->conn, ETIMEDOUT,
		  "The gateway did not answer; try again later.");
}

static void asker_closed(struct conn *conn)
{
	struct asker *asker = conn->owner;

	timer_clear(&asker->deadline);
	asker->id = 0;
}

static void attendant_closed(struct conn *conn)
{
	int kept = 0;

	for (int i = 0; i < ATTENDANTS_MAX; i++)
		if (attendants[i] != conn)
			attendants[kept++] = attendants[i];
	while (kept < ATTENDANTS_MAX)
		attendants[kept++] = NULL;
	for (int i = 0; i < ASKERS_MAX; i++)
		if (askers[i].id && askers[i].attendant == conn)
			conn_fail(askers[i].conn, ECONNRESET, "The gateway went away before it answered; try again.");
}

static struct conn *latest_attendant(void)
{
	struct conn *latest = NULL;

	for (int i = 0; i < ATTENDANTS_MAX && attendants[i]; i++)
		latest = attendants[i];
	return latest;
}

void attend_request(struct conn *conn, const struct message *message, int *fds)
{
	uint8_t buffer[16];
	struct writer writer;

	(void)message, (void)fds;
	for (int i = 0; i < ATTENDANTS_MAX; i++) {
		if (attendants[i])
			continue;
		attendants[i] = conn;
		conn_own(conn, CONN_ATTENDANT, NULL, attendant_closed);
		write_start(&writer, buffer, sizeof(buffer), MSG_ATTENDING);
		conn_send(conn, &writer);
		return;
	}
	conn_fail(conn, EBUSY, "%d gateways attend this workspace already.", ATTENDANTS_MAX);
}

void attend_answer(struct conn *conn, const struct message *message, int *fds)
{
	static uint8_t buffer[REPLY_MAX];
	struct asker *asker = message->id ? asker_find(message->id) : NULL;
	struct writer writer;

	(void)fds;
	if (!asker || asker->attendant != conn)
		return; /* it has gone meanwhile */
	write_start(&writer, buffer, sizeof(buffer), MSG_ANSWERED);
	write_u8(&writer, message->status);
	write_string(&writer, message->text);
	if (conn_send(asker->conn, &writer))
		conn_close(asker->conn);
}

void ask_request(struct conn *conn, const struct message *message, int *fds)
{
	static uint8_t buffer[REPLY_MAX];
	struct asker *asker = asker_find(0);
	struct conn *attendant = latest_attendant();
	struct writer writer;

	(void)fds;
	if (!attendant) {
		conn_fail(conn, ENOTCONN, "No gateway attends this workspace just now; log in again and retry.");
		return;
	}
	if (!asker) {
		conn_fail(conn, EBUSY, "%d others wait for an answer already; try again.", ASKERS_MAX);
		return;
	}
	last_id = last_id == UINT32_MAX ? 1 : last_id + 1;
	asker->id = last_id;
	asker->conn = conn;
	asker->attendant = attendant;
	conn_own(conn, CONN_ASKER, asker, asker_closed);
	timer_set(&asker->deadline, ANSWER_MS, asker_late);
	write_start(&writer, buffer, sizeof(buffer), MSG_ASKED);
	write_u32(&writer, asker->id);
	write_u32(&writer, conn->uid);
	write_string(&writer, message->text);
	write_strings(&writer, message->argc, message->argv);
	conn_send(attendant, &writer);
}
