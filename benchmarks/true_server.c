/* A server of the OpenAI-compatible interface whose times are chosen, and which logs what truly happened.
 *
 *     cc -O2 -o true_server true_server.c
 *     ./true_server LOG TTFT_NS ITL_NS [PORT]
 *
 * It prints "port N" and serves until SIGTERM, then writes LOG, a row for each request:
 *
 *     received   when the last byte of the request had been read
 *     first      right before the bytes with the first token were handed to the socket
 *     last       the same of the last token
 *     asked      tokens asked for
 *     tokens     tokens written; fewer than asked for where the client left
 *     late       the latest write of this request, behind its due time: what the server itself was late
 *     held       writes that the socket did not take at once, because the client read too slowly
 *     body       bytes of the request's body
 *
 * and a last line "# turn N": the longest turn of its loop, in which nothing could be read. All times are nanoseconds
 * of CLOCK_MONOTONIC. The first token is due TTFT after the request was received, each other one ITL after the due
 * time of the one before: a late write does not move those that follow.
 *
 * One thread, one epoll. As all requests have the same two times, whatever is due next stands at the head of one of
 * two queues, that of first tokens and that of others, and no ordered structure is needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define WRITES_A_TURN 128 /* so that a burst of due tokens does not keep new requests waiting */
#define LARGEST (1 << 22)

typedef int64_t ns_t;

typedef struct Connection {
    int fd, chat, stream, continuous, final_usage, closing;
    int busy; /* a request is on its way */
    char *in, *out;
    size_t in_size, in_room, out_size, out_room;
    struct Connection *next; /* in the queue in which it stands */
    struct Queue *queue;
    ns_t due, received, first, last, late;
    int asked, tokens, prompt, held;
    size_t body;
} Connection;

typedef struct Queue {
    Connection *head, *tail;
} Queue;

typedef struct {
    ns_t received, first, last, late;
    int asked, tokens, held;
    size_t body;
} Row;

static Queue firsts, others;
static ns_t ttft, itl, longest_turn;
static int loop;
static Row *rows;
static size_t row_count, row_room;
static volatile sig_atomic_t ending;

static ns_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * (ns_t)1000000000 + at.tv_nsec;
}

static void *grown(void *block, size_t size)
{
    block = realloc(block, size);
    if (!block) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return block;
}

static void enqueue(Queue *queue, Connection *one)
{
    one->next = NULL;
    one->queue = queue;
    if (queue->tail)
        queue->tail->next = one;
    else
        queue->head = one;
    queue->tail = one;
}

static void dequeue(Connection *one) /* at once for the head, which is what is due next */
{
    Queue *queue = one->queue;
    if (!queue)
        return;
    Connection **place = &queue->head, *before = NULL;
    while (*place != one) {
        before = *place;
        place = &before->next;
    }
    *place = one->next;
    if (queue->tail == one)
        queue->tail = before;
    one->queue = NULL;
}

static Connection *due_next(void)
{
    if (!firsts.head)
        return others.head;
    return others.head && others.head->due < firsts.head->due ? others.head : firsts.head;
}

static void log_row(Connection *one)
{
    if (row_count == row_room) {
        row_room = row_room ? 2 * row_room : 16384;
        rows = grown(rows, row_room * sizeof *rows);
    }
    rows[row_count++] = (Row){one->received, one->first,  one->last, one->late,
                              one->asked,    one->tokens, one->held, one->body};
}

static void write_log(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        return;
    }
    fputs("received,first,last,asked,tokens,late,held,body\n", file);
    for (size_t at = 0; at < row_count; at++) {
        Row *row = rows + at;
        fprintf(file, "%lld,%lld,%lld,%d,%d,%lld,%d,%zu\n", (long long)row->received, (long long)row->first,
                (long long)row->last, row->asked, row->tokens, (long long)row->late, row->held, row->body);
    }
    fprintf(file, "# turn %lld\n", (long long)longest_turn);
    fclose(file);
}

static void watch(Connection *one, int writable)
{
    struct epoll_event event = {.events = writable ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = one};
    epoll_ctl(loop, EPOLL_CTL_MOD, one->fd, &event);
}

/* Bytes that the socket does not take are kept until it does. Returns -1 where the client is gone. */
static int put(Connection *one, const char *bytes, size_t count)
{
    if (!one->out_size) {
        ssize_t taken = send(one->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (taken < 0 && errno != EAGAIN)
            return -1;
        if (taken < 0)
            taken = 0;
        bytes += taken;
        count -= taken;
        if (!count)
            return 0;
        watch(one, 1);
    }
    one->held++;
    if (one->out_size + count > one->out_room) {
        one->out_room = 2 * (one->out_size + count);
        one->out = grown(one->out, one->out_room);
    }
    memcpy(one->out + one->out_size, bytes, count);
    one->out_size += count;
    return 0;
}

static int flush(Connection *one)
{
    ssize_t taken = send(one->fd, one->out, one->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0)
        return errno == EAGAIN ? 0 : -1;
    one->out_size -= taken;
    memmove(one->out, one->out + taken, one->out_size);
    if (!one->out_size)
        watch(one, 0);
    return 0;
}

static void drop(Connection *one)
{
    if (one->busy) {
        dequeue(one);
        log_row(one);
    }
    close(one->fd);
    free(one->in);
    free(one->out);
    free(one);
}

/* One event of a stream, as a chunk of the transfer encoding. */
static int event(char *into, const char *json)
{
    return sprintf(into, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json);
}

static int usage(char *into, Connection *one)
{
    return sprintf(into, "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d}", one->prompt,
                   one->tokens, one->prompt + one->tokens);
}

static int whole_answer(char *into, Connection *one) /* not streamed: all tokens at the time of the first */
{
    char told[256], json[1024];
    int size = usage(told, one);
    size = sprintf(json,
                   one->chat ? "{\"id\":\"t\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"truth\",\"choices\":[{"
                               "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"w\"},\"finish_reason\":"
                               "\"length\"}],%s}"
                             : "{\"id\":\"t\",\"object\":\"text_completion\",\"created\":1,\"model\":\"truth\",\"choices\":[{"
                               "\"index\":0,\"text\":\"w\",\"finish_reason\":\"length\"}],%s}",
                   told);
    return sprintf(into, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", size, json);
}

static int token(char *into, Connection *one) /* the bytes of the token that `one->tokens` counts already */
{
    const char *object = one->chat ? "chat.completion.chunk" : "text_completion";
    char told[256] = "", json[1024];
    int size = 0, last = one->tokens == one->asked;
    if (one->tokens == 1) {
        size += sprintf(into, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                              "transfer-encoding: chunked\r\n\r\n");
        if (one->chat)
            size += event(into + size, "{\"id\":\"t\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"truth\","
                                       "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                                       "\"finish_reason\":null}]}");
    }
    if (one->continuous) {
        told[0] = ',';
        usage(told + 1, one);
    }
    sprintf(json, "{\"id\":\"t\",\"object\":\"%s\",\"created\":1,\"model\":\"truth\",\"choices\":[{\"index\":0,%s,"
                  "\"finish_reason\":%s}]%s}",
            object, one->chat ? "\"delta\":{\"content\":\" w\"}" : "\"text\":\" w\"", last ? "\"length\"" : "null", told);
    size += event(into + size, json);
    if (!last)
        return size;
    if (one->final_usage) {
        usage(told, one);
        sprintf(json, "{\"id\":\"t\",\"object\":\"%s\",\"created\":1,\"model\":\"truth\",\"choices\":[],%s}", object, told);
        size += event(into + size, json);
    }
    size += event(into + size, "[DONE]");
    return size + sprintf(into + size, "0\r\n\r\n");
}

/* Write what is due. Returns -1 where the client is gone. */
static int step(Connection *one)
{
    char bytes[4096];
    dequeue(one);
    one->tokens = one->stream ? one->tokens + 1 : one->asked;
    int size = one->stream ? token(bytes, one) : whole_answer(bytes, one);
    ns_t at = now();
    if (at - one->due > one->late)
        one->late = at - one->due;
    if (!one->first)
        one->first = at;
    one->last = at;
    int gone = put(one, bytes, size);
    if (one->tokens == one->asked) {
        log_row(one);
        one->busy = 0;
    } else {
        one->due += itl;
        enqueue(&others, one);
    }
    return gone;
}

static const char *value_of(const char *json, const char *key) /* right after "key": ; NULL where there is none */
{
    char quoted[64];
    size_t size = snprintf(quoted, sizeof quoted, "\"%s\"", key);
    for (const char *at = strstr(json, quoted); at; at = strstr(at + size, quoted)) {
        const char *after = at + size;
        after += strspn(after, " ");
        if (*after == ':')
            return after + 1 + strspn(after + 1, " ");
    }
    return NULL;
}

static int is_true(const char *json, const char *key)
{
    const char *value = value_of(json, key);
    return value && !strncmp(value, "true", 4);
}

static int prompt_tokens(const char *json) /* ids of a list, else characters of the text: one token each */
{
    const char *value = value_of(json, "prompt");
    int count = 1;
    if (!value)
        value = value_of(json, "content");
    if (value && *value == '[' && value[1 + strspn(value + 1, " ")] != '{') {
        for (; *value && *value != ']'; value++)
            count += *value == ',';
        return count;
    }
    if (value && *value == '[')
        value = value_of(value, "text");
    if (!value || *value != '"')
        return 1;
    for (count = 0; *++value && *value != '"'; count++)
        if (*value == '\\' && value[1])
            value++;
    return count ? count : 1;
}

static int answer(Connection *one, const char *status, const char *json)
{
    char bytes[1024];
    int size = sprintf(bytes, "HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", status,
                       strlen(json), json);
    return put(one, bytes, size);
}

static int begin(Connection *one, const char *path, const char *json, size_t body, ns_t at)
{
    const char *asked = value_of(json, "max_tokens");
    if (!asked || *asked < '0' || *asked > '9')
        asked = value_of(json, "max_completion_tokens");
    one->chat = !strncmp(path, "/v1/chat/completions", 20);
    if (!one->chat && strncmp(path, "/v1/completions", 15))
        return answer(one, "404 Not Found", "{\"error\":{\"message\":\"no such path\"}}");
    one->stream = is_true(json, "stream");
    one->final_usage = is_true(json, "include_usage");
    one->continuous = one->final_usage && is_true(json, "continuous_usage_stats");
    one->asked = asked ? atoi(asked) : 16;
    if (one->asked < 1)
        one->asked = 1;
    one->prompt = prompt_tokens(json);
    one->tokens = one->held = 0;
    one->first = one->last = one->late = 0;
    one->received = at;
    one->body = body;
    one->busy = 1;
    one->due = at + ttft;
    enqueue(&firsts, one);
    return 0;
}

/* Serve a request that has come whole. Returns 1 if there was one, 0 if more must come, -1 to drop the connection. */
static int request(Connection *one, ns_t at)
{
    one->in[one->in_size] = 0;
    char *head_end = strstr(one->in, "\r\n\r\n");
    if (!head_end)
        return one->in_size > 65536 ? -1 : 0;
    size_t head = head_end - one->in + 4, body = 0;
    for (char *line = strstr(one->in, "\r\n") + 2; line < head_end; line = strstr(line, "\r\n") + 2) {
        if (!strncasecmp(line, "content-length:", 15))
            body = strtoul(line + 15, NULL, 10);
        if (!strncasecmp(line, "transfer-encoding:", 18))
            return -1;
    }
    if (body > LARGEST)
        return -1;
    if (one->in_size < head + body)
        return 0;
    char after = one->in[head + body], *path = strchr(one->in, ' ');
    int gone;
    one->in[head + body] = 0;
    path = path && path < head_end ? path + 1 : "";
    if (!strncmp(one->in, "POST ", 5))
        gone = begin(one, path, one->in + head, body, at);
    else if (!strncmp(path, "/v1/models", 10))
        gone = answer(one, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"truth\",\"object\":\"model\",\"created\":1,"
                                     "\"owned_by\":\"llem\",\"max_model_len\":4096}]}");
    else if (!strncmp(path, "/health", 7))
        gone = answer(one, "200 OK", "{}");
    else
        gone = answer(one, "404 Not Found", "{\"error\":{\"message\":\"no such path\"}}");
    one->in[head + body] = after;
    one->in_size -= head + body;
    memmove(one->in, one->in + head + body, one->in_size);
    return gone ? -1 : 1;
}

static int serve_what_came(Connection *one, ns_t at)
{
    int found = 1;
    while (!one->busy && found == 1 && one->in_size)
        found = request(one, at);
    return found < 0 ? -1 : 0;
}

static int receive(Connection *one)
{
    for (;;) {
        if (one->in_room - one->in_size < 4096) {
            if (one->in_room > 2 * LARGEST)
                return -1;
            one->in_room = one->in_room ? 2 * one->in_room : 8192;
            one->in = grown(one->in, one->in_room + 1);
        }
        size_t room = one->in_room - one->in_size;
        ssize_t count = recv(one->fd, one->in + one->in_size, room, MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN))
            return -1;
        if (count < 0)
            return serve_what_came(one, now());
        one->in_size += count;
        if ((size_t)count < room)
            return serve_what_came(one, now());
    }
}

static void accept_all(int listening)
{
    int fd, on = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Connection *one = calloc(1, sizeof *one);
        if (!one)
            exit(1);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        one->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Write what is due, then set the timer on what will be. */
static void write_due(int timer)
{
    static ns_t set_for;
    Connection *one;
    for (int count = 0; count < WRITES_A_TURN && (one = due_next()) && one->due <= now(); count++)
        if (step(one) || (!one->busy && serve_what_came(one, now())))
            drop(one);
    one = due_next();
    ns_t wake = one ? one->due : 0;
    if (one && wake == set_for && wake > now())
        return;
    set_for = wake;
    struct itimerspec at = {.it_value = {.tv_sec = wake / 1000000000, .tv_nsec = wake % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&at, size) || listen(fd, 4096) || getsockname(fd, (void *)&at, &size)) {
        perror("listen");
        exit(1);
    }
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void end(int signal)
{
    (void)signal;
    ending = 1;
}

int main(int count, char **options)
{
    if (count < 4) {
        fputs("usage: true_server LOG TTFT_NS ITL_NS [PORT]\n", stderr);
        return 2;
    }
    ttft = atoll(options[2]);
    itl = atoll(options[3]);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    static int listening_mark, timer_mark;
    loop = epoll_create1(EPOLL_CLOEXEC);
    int listening = listen_on(count > 4 ? atoi(options[4]) : 0);
    struct epoll_event of_listening = {.events = EPOLLIN, .data.ptr = &listening_mark};
    struct epoll_event of_timer = {.events = EPOLLIN, .data.ptr = &timer_mark};
    epoll_ctl(loop, EPOLL_CTL_ADD, listening, &of_listening);
    epoll_ctl(loop, EPOLL_CTL_ADD, timer, &of_timer);
    struct epoll_event events[EVENTS];
    while (!ending) {
        int ready = epoll_wait(loop, events, EVENTS, 1000); /* a signal may come right before */
        ns_t woken = now();
        for (int at = 0; at < ready; at++) {
            Connection *one = events[at].data.ptr;
            if (events[at].data.ptr == &listening_mark) {
                accept_all(listening);
            } else if (events[at].data.ptr == &timer_mark) {
                uint64_t rings;
                if (read(timer, &rings, sizeof rings) < 0 && errno != EAGAIN)
                    perror("timer");
            } else if ((events[at].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && receive(one)) ||
                       (one->out_size && events[at].events & EPOLLOUT && flush(one))) {
                drop(one);
            }
        }
        write_due(timer);
        ns_t turn = now() - woken;
        if (turn > longest_turn)
            longest_turn = turn;
    }
    write_log(options[1]);
    return 0;
}
