/*
 * Host names to addresses, in a helper child: numbers, `localhost`, /etc/hosts, then DNS by /etc/resolv.conf.
 *
 * getaddrinfo would load the image's own name service libraries into this static program. The resolver of libc
 * (res_search: servers, search domains, retries) needs none.
 */
#include "agent.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io.h"

enum { HOSTS_BYTES = 256 * 1024, ANSWER_BYTES = 8 * 1024 };

struct found {
	struct sockaddr_storage *addresses;
	int count, capacity;
	uint16_t port;
};

static void add(struct found *found, int family, const void *address)
{
	struct sockaddr_storage *next = &found->addresses[found->count];

	if (found->count >= found->capacity)
		return;
	memset(next, 0, sizeof(*next));
	next->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)next;

		in->sin_port = htons(found->port);
		memcpy(&in->sin_addr, address, sizeof(in->sin_addr));
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)next;

		in6->sin6_port = htons(found->port);
		memcpy(&in6->sin6_addr, address, sizeof(in6->sin6_addr));
	}
	found->count++;
}

static void add_number(struct found *found, const char *text)
{
	struct in6_addr in6;
	struct in_addr in;

	if (inet_pton(AF_INET, text, &in) == 1)
		add(found, AF_INET, &in);
	else if (inet_pton(AF_INET6, text, &in6) == 1)
		add(found, AF_INET6, &in6);
}

static void look_in_hosts(struct found *found, const char *host)
{
	char *content = read_regular("/etc/hosts", HOSTS_BYTES);
	char *rest = content;
	char *line;

	while ((line = strsep(&rest, "\n"))) {
		char *address, *name;

		line[strcspn(line, "#")] = 0;
		address = strtok(line, " \t");
		while (address && (name = strtok(NULL, " \t")))
			if (strcasecmp(name, host) == 0)
				add_number(found, address);
	}
	free(content);
}

static void ask_servers(struct found *found, const char *host, int type, int family)
{
	static unsigned char answer[ANSWER_BYTES];
	int length = res_search(host, ns_c_in, type, answer, sizeof(answer));
	ns_msg message;

	if (length < 0 || ns_initparse(answer, length < ANSWER_BYTES ? length : ANSWER_BYTES, &message) < 0)
		return;
	for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
		ns_rr record;

		if (ns_parserr(&message, ns_s_an, i, &record) == 0 && (int)ns_rr_type(record) == type &&
		    ns_rr_rdlen(record) == (family == AF_INET ? 4 : 16))
			add(found, family, ns_rr_rdata(record));
	}
}

/* The number of addresses found, most wanted first. */
int resolve(const char *host, uint16_t port, struct sockaddr_storage *addresses, int capacity)
{
	struct found found = {.addresses = addresses, .capacity = capacity, .port = port};

	add_number(&found, host);
	if (!found.count && strcasecmp(host, "localhost") == 0) {
		add_number(&found, "127.0.0.1");
		add_number(&found, "::1");
	}
	if (!found.count)
		look_in_hosts(&found, host);
	if (!found.count) {
		ask_servers(&found, host, ns_t_a, AF_INET);
		ask_servers(&found, host, ns_t_aaaa, AF_INET6);
	}
	return found.count;
}
