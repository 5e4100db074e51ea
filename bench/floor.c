/*
 * The C floor: what no server in any language can do without. It is `bench/floor.py` in C: accept,
 * handshake, unmask, and for each publish one prepared event to each receiver of the room, one
 * `send` each, and a prepared answer to the sender. It stores nothing, asks nobody, joins nothing.
 *
 *     cc -O2 -o floor floor.c && ./floor      prints its port, serves until standard input closes
 *
 * Rules: one epoll loop, level-triggered, no threads. It is for the load generator alone: a client
 * that sends what the generator never sends ends the program with a line that says so.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handshake.h"

#define INPUT 65536
#define CLIENTS 65536
#define ROOMS 65536
#define NAME 160
#define UUID "01890a5d-ac96-774b-bcce-b302099a8057"
#define TIME "2026-01-02T03:04:05.678Z"
#define CONTENT "floor 0 a line of chat as people write it, neither long nor very"

struct client {
    int is_open;
    size_t held;
    struct room *room;
    unsigned char *input; /* what has not made a whole frame yet; allocated while needed */
};

struct room {
    char name[NAME];
    int *members;
    int count, capacity;
    long offset;
};

static struct client *clients[CLIENTS];
static struct room *rooms[ROOMS];

static void fail(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, errno ? strerror(errno) : "not as the generator does it");
    exit(1);
}

static void send_whole(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, -1);
            continue;
        }
        if (sent < 0)
            return; /* gone; its socket says so to the loop */
        data += sent;
        size -= (size_t)sent;
    }
}

/* A server frame of `size` bytes of text behind four bytes of room for its header. */
static void send_frame(int fd, char *with_room, size_t size) {
    unsigned char *start = (unsigned char *)with_room;
    if (size < 126) {
        start += 2;
        start[0] = 0x81;
        start[1] = (unsigned char)size;
        send_whole(fd, (char *)start, size + 2);
        return;
    }
    start[0] = 0x81;
    start[1] = 126;
    start[2] = (unsigned char)(size >> 8);
    start[3] = (unsigned char)size;
    send_whole(fd, (char *)start, size + 4);
}

static void handshake(int fd, char *head) {
    unsigned char text[128];
    char accept[29], answer[512];
    char *key = strcasestr(head, "\r\nSec-WebSocket-Key:");
    if (key == NULL)
        fail("a handshake without a key");
    key += 20;
    key += strspn(key, " ");
    size_t length = strcspn(key, "\r ");
    if (length > 64)
        fail("a long key");
    memcpy(text, key, length);
    memcpy(text + length, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    accept_key(text, length + 36, accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    send_whole(fd, answer, (size_t)size);
    size = snprintf(answer + 4, sizeof answer - 4,
                    "{\"type\":\"hello\",\"connection\":\"floor\",\"node\":\"floor\",\"user\":"
                    "\"floor\",\"expires_at\":null,\"ping_interval\":25,\"max_frame_bytes\":65536,"
                    "\"server_time\":\"" TIME "\"}");
    send_frame(fd, answer, (size_t)size);
}

static struct room *room_of(const char *name, size_t length) {
    uint32_t at = 2166136261u;
    for (size_t i = 0; i < length; i++)
        at = (at ^ (unsigned char)name[i]) * 16777619u;
    for (at %= ROOMS; rooms[at] != NULL; at = (at + 1) % ROOMS)
        if (strncmp(rooms[at]->name, name, length) == 0 && rooms[at]->name[length] == 0)
            return rooms[at];
    if (length >= NAME || (rooms[at] = calloc(1, sizeof(struct room))) == NULL)
        fail("a room");
    memcpy(rooms[at]->name, name, length);
    return rooms[at];
}

static void subscribe(int fd, const char *payload) {
    char answer[512];
    const char *name = strstr(payload, "\"room\":\"");
    if (name == NULL)
        fail("a subscription without a room");
    name += 8;
    struct room *room = room_of(name, strcspn(name, "\""));
    if (clients[fd]->room == NULL) {
        if (room->count == room->capacity) {
            room->capacity = room->capacity ? 2 * room->capacity : 8;
            room->members = realloc(room->members, (size_t)room->capacity * sizeof(int));
            if (room->members == NULL)
                fail("memory");
        }
        room->members[room->count++] = fd;
        clients[fd]->room = room;
    }
    int size = snprintf(answer + 4, sizeof answer - 4,
                        "{\"type\":\"reply\",\"id\":0,\"result\":{\"room\":\"%s\",\"epoch\":"
                        "\"floor\",\"offset\":%ld,\"seq\":%ld}}",
                        room->name, room->offset, room->offset);
    send_frame(fd, answer, (size_t)size);
}

static void publish(int fd, const char *payload) {
    struct room *room = clients[fd]->room;
    char event[2048], answer[512];
    if (room == NULL)
        fail("a publish without a subscription");
    long offset = ++room->offset;
    int size = snprintf(event + 4, sizeof event - 4,
                        "{\"type\":\"event\",\"event\":\"message.created\",\"room\":\"%s\","
                        "\"offset\":%10ld,\"time\":\"" TIME "\",\"data\":{\"id\":\"" UUID
                        "\",\"room\":\"%s\",\"seq\":%10ld,\"sender\":\"floor-user-1\",\"kind\":"
                        "\"text\",\"content\":\"" CONTENT "\",\"metadata\":{},\"attachments\":[],"
                        "\"mentions\":[],\"reply_to\":null,\"reply_count\":0,\"forwarded_from\":"
                        "null,\"client_id\":\"floor-client-1-00001\",\"created_at\":\"" TIME
                        "\",\"edited_at\":null,\"deleted_at\":null,\"deleted_by\":null,"
                        "\"reactions\":{}}}",
                        room->name, offset, room->name, offset);
    for (int i = 0; i < room->count; i++)
        send_frame(room->members[i], event, (size_t)size);
    size = snprintf(answer + 4, sizeof answer - 4,
                    "{\"type\":\"reply\",\"id\":%ld,\"result\":{\"message_id\":\"" UUID
                    "\",\"seq\":%ld,\"offset\":%ld,\"created_at\":\"" TIME
                    "\",\"duplicate\":false}}",
                    strtol(payload + 23, NULL, 10), offset, offset);
    send_frame(fd, answer, (size_t)size);
}

/* Handle every whole frame; returns where the rest begins. */
static size_t take_frames(int fd, unsigned char *data, size_t size) {
    size_t at = 0;
    while (size - at >= 6) {
        size_t length = data[at + 1] & 127, start = at + 6;
        if (length == 126) {
            length = (size_t)data[at + 2] << 8 | data[at + 3];
            start += 2;
        }
        if (start + length > size)
            break;
        unsigned char *payload = data + start, *mask = payload - 4, kept = payload[length];
        for (size_t i = 0; i < length; i++)
            payload[i] ^= mask[i & 3];
        payload[length] = 0; /* the input has a byte to spare */
        if (strncmp((char *)payload, "{\"type\":\"publish\",\"id\":", 23) == 0)
            publish(fd, (char *)payload);
        else if (strncmp((char *)payload, "{\"type\":\"subscribe\",", 20) == 0)
            subscribe(fd, (char *)payload);
        payload[length] = kept;
        at = start + length;
    }
    return at;
}

static void forget(int fd) {
    struct room *room = clients[fd]->room;
    for (int i = 0; room != NULL && i < room->count; i++)
        if (room->members[i] == fd)
            room->members[i] = room->members[--room->count];
    free(clients[fd]->input);
    free(clients[fd]);
    clients[fd] = NULL;
    close(fd);
}

static void take_input(int fd) {
    static unsigned char data[2 * INPUT + 1];
    struct client *client = clients[fd];
    if (client->held)
        memcpy(data, client->input, client->held);
    ssize_t got = recv(fd, data + client->held, INPUT, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        forget(fd);
        return;
    }
    size_t size = client->held + (size_t)got, at = 0;
    data[size] = 0;
    if (!client->is_open) {
        char *end = strstr((char *)data, "\r\n\r\n");
        if (end != NULL) {
            client->is_open = 1;
            handshake(fd, (char *)data);
            at = (size_t)(end + 4 - (char *)data);
        }
    }
    if (client->is_open)
        at += take_frames(fd, data + at, size - at);
    client->held = size - at;
    if (client->held > INPUT || (client->held && client->input == NULL &&
                                 (client->input = malloc(INPUT)) == NULL))
        fail("an input");
    if (client->held)
        memcpy(client->input, data + at, client->held);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll");
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct epoll_event ready[256];
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        fail("listening");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    watch(epoll, listener);
    watch(epoll, STDIN_FILENO);
    for (;;) {
        int count = epoll_wait(epoll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0 || client >= CLIENTS ||
                    (clients[client] = calloc(1, sizeof(struct client))) == NULL)
                    fail("accepting");
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                watch(epoll, client);
            } else if (clients[fd] != NULL) {
                take_input(fd);
            }
        }
    }
}
