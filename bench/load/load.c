// A load generator that verifies every answer. One thread, many connections; gRPC unary calls over
// HTTP/2 in clear, or Redis commands.
//
//     load PROTOCOL HOST PORT PATH QUESTIONS RATE IN_FLIGHT CONNECTIONS WARM_SECONDS SECONDS [ROOM]
//
// PROTOCOL grpc or resp; PATH of the gRPC method. RATE > 0: open loop, questions leave at the times
// of a Poisson process whatever the answers do, and a latency is counted from the time at which the
// question should have left (no coordinated omission). RATE 0: closed loop, IN_FLIGHT always out.
// per_s of an open loop: answers that came within SECONDS, whenever their questions were due.
// Where no connection has a stream free, a question waits here, which is not the server's doing:
// late_* tell how long, node_* the latencies from when the questions left. With the word "held"
// for ROOM it does not wait but is given up and counted as held, as if its client had gone elsewhere.
// QUESTIONS: u32 count, then for each u32 question bytes, u32 answer bytes, question, answer.
// A gRPC answer must begin with the answer's bytes (what follows are the serials of the data); a
// Redis answer must equal it. Prints one JSON object; exit code 1 when an answer was wrong, refused (its
// stream ended without one) or missing.
// SIGINT ends the asking as the end of SECONDS does.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1 << 16, OUT_BYTES = 1 << 22, IN_BYTES = 1 << 18, DRAIN_SECONDS = 3 };
enum { DATA = 0, HEADERS = 1, RESET = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8 };

typedef struct { const uint8_t *text, *answer; uint32_t size, answer_size; } Question;
typedef struct { double due, left; uint32_t question, seen; uint8_t waits, wrong; } Slot;
typedef struct {
    int fd;
    uint32_t next, oldest, waiting, unacknowledged, max_streams;  // next, oldest: places in slots
    int64_t window, stream_window;
    int blocked;
    Slot *slots;
    uint8_t *out, *in;
    size_t out_size, in_size;
} Connection;

typedef struct { float *values; size_t count, room; } Times;

static Question *questions;
static uint32_t question_count;
static uint8_t headers[512];
static size_t headers_size;
static int is_grpc, epoll;
static Times latencies, node_latencies, refusals, lateness;
static uint64_t sent, held, right, right_in_time, wrong, refused, missing, outstanding;
static double measured_from, measured_to, last_answer;
static volatile sig_atomic_t told_to_end;

static void end_early(int number) {
    (void)number;
    told_to_end = 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *why) {
    printf("{\"failed\": \"%s\", \"right\": %lu, \"wrong\": %lu, \"missing\": %lu}\n", why, right,
           wrong, missing + outstanding);
    exit(1);
}

static void keep(Times *times, double value) {
    if (times->count == times->room) {
        times->room = times->room ? times->room * 2 : 1 << 16;
        times->values = realloc(times->values, times->room * sizeof(float));
        if (!times->values) fail("out of memory");
    }
    times->values[times->count++] = (float)value;
}

static void read_questions(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("no questions file");
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *all = malloc(size);
    if (fread(all, 1, size, file) != (size_t)size) fail("questions file unreadable");
    fclose(file);
    memcpy(&question_count, all, 4);
    questions = calloc(question_count, sizeof(Question));
    uint8_t *at = all + 4;
    for (uint32_t i = 0; i < question_count; i++) {
        Question *q = &questions[i];
        memcpy(&q->size, at, 4);
        memcpy(&q->answer_size, at + 4, 4);
        q->text = at + 8;
        q->answer = q->text + q->size;
        at = (uint8_t *)q->answer + q->answer_size;
        if (q->size > 60000) fail("a question is too long");
    }
}

static void literal(const char *name, const char *value) {  // RFC 7541 6.2.2, new name, not indexed
    size_t a = strlen(name), b = strlen(value);
    if (b > 126) fail("a header is too long");
    headers[headers_size++] = 0;
    headers[headers_size++] = (uint8_t)a;
    memcpy(headers + headers_size, name, a);
    headers_size += a;
    headers[headers_size++] = (uint8_t)b;
    memcpy(headers + headers_size, value, b);
    headers_size += b;
}

static void append(Connection *c, const void *bytes, size_t size) {
    if (c->out_size + size > OUT_BYTES) fail("the server reads nothing");
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
}

static void frame(Connection *c, uint32_t size, uint8_t type, uint8_t flags, uint32_t stream) {
    uint8_t head[9] = {size >> 16, size >> 8, size, type, flags, stream >> 24, stream >> 16,
                       stream >> 8, stream};
    append(c, head, 9);
}

static void word(Connection *c, uint32_t value) {
    uint8_t bytes[4] = {value >> 24, value >> 16, value >> 8, value};
    append(c, bytes, 4);
}

static void connect_to(Connection *c, const char *host, int port, uint32_t place) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        connect(c->fd, (void *)&address, sizeof address))
        fail("can't connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->slots = calloc(SLOTS, sizeof(Slot));
    c->out = malloc(OUT_BYTES);
    c->in = malloc(IN_BYTES);
    c->max_streams = SLOTS - 1;
    c->window = c->stream_window = 65535;
    if (is_grpc) {
        append(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
        frame(c, 6, SETTINGS, 0, 0);
        append(c, "\0\4\x7f\xff\xff\xff", 6);  // INITIAL_WINDOW_SIZE: the largest
        frame(c, 4, WINDOW_UPDATE, 0, 0);
        word(c, 0x3fff0000);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = place};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static int has_room(const Connection *c, const Question *q, uint32_t most) {
    if (c->waiting >= most || c->waiting >= c->max_streams || c->next - c->oldest >= SLOTS - 1)
        return 0;
    return is_grpc ? c->window >= (int64_t)q->size : c->out_size < OUT_BYTES / 2;
}

static void ask(Connection *c, uint32_t question, double due, double at) {
    const Question *q = &questions[question];
    uint32_t stream = 2 * c->next + 1;
    c->slots[c->next++ % SLOTS] = (Slot){.due = due, .left = at, .question = question, .waits = 1};
    if (is_grpc) {
        if (c->stream_window < (int64_t)q->size) fail("the server's stream window is too small");
        frame(c, headers_size, HEADERS, END_HEADERS, stream);
        append(c, headers, headers_size);
        frame(c, q->size, DATA, END_STREAM, stream);
        c->window -= q->size;
    }
    append(c, q->text, q->size);
    c->waiting++;
    outstanding++;
    sent++;
    if (due >= measured_from) keep(&lateness, at - due);
}

static void settle(Connection *c, Slot *slot, double at) {
    if (!slot->waits) return;
    const Question *q = &questions[slot->question];
    uint32_t least = is_grpc ? q->answer_size + 5 : q->answer_size;
    if (slot->seen == 0) {
        refused++;
        if (slot->due >= measured_from) keep(&refusals, at - slot->left);
    } else if (slot->wrong || slot->seen < least) wrong++;
    else {
        right_in_time += at >= measured_from && at < measured_to;
        if (slot->due >= measured_from) {
            right++;
            last_answer = at;
            keep(&latencies, at - slot->due);
            keep(&node_latencies, at - slot->left);
        }
    }
    slot->waits = 0;
    c->waiting--;
    outstanding--;
    while (c->oldest != c->next && !c->slots[c->oldest % SLOTS].waits) c->oldest++;
}

static void compare(Slot *slot, const uint8_t *bytes, uint32_t size) {
    const Question *q = &questions[slot->question];
    for (uint32_t i = 0; i < size; i++, slot->seen++) {
        if (slot->seen == 0) slot->wrong |= bytes[i] != 0;  // the flag: compressed
        else if (slot->seen >= 5 && slot->seen - 5 < q->answer_size)
            slot->wrong |= bytes[i] != q->answer[slot->seen - 5];
    }
}

static void take_settings(Connection *c, const uint8_t *at, uint32_t size) {
    for (; size >= 6; at += 6, size -= 6) {
        uint32_t id = at[0] << 8 | at[1];
        uint32_t value = (uint32_t)at[2] << 24 | at[3] << 16 | at[4] << 8 | at[5];
        if (id == 3 && value < SLOTS - 1) c->max_streams = value;
        if (id == 4) c->stream_window = value;
    }
    frame(c, 0, SETTINGS, ACK, 0);
}

static void take_frame(Connection *c, const uint8_t *head, uint32_t size, double at) {
    uint8_t type = head[3], flags = head[4];
    uint32_t stream = (uint32_t)(head[5] & 127) << 24 | head[6] << 16 | head[7] << 8 | head[8];
    const uint8_t *body = head + 9;
    Slot *slot = &c->slots[(stream >> 1) % SLOTS];
    if (type == SETTINGS && !(flags & ACK)) take_settings(c, body, size);
    else if (type == PING && !(flags & ACK)) {
        frame(c, 8, PING, ACK, 0);
        append(c, body, 8);
    } else if (type == GOAWAY) fail("the server said goodbye");
    else if (type == RESET) settle(c, slot, at);
    else if (type == WINDOW_UPDATE && stream == 0)
        c->window += (uint32_t)(body[0] & 127) << 24 | body[1] << 16 | body[2] << 8 | body[3];
    else if (type == DATA || type == HEADERS) {
        if (flags & PADDED) fail("padded frames are not understood");
        if (type == DATA) {
            compare(slot, body, size);
            c->unacknowledged += size;
        }
        if (flags & END_STREAM) settle(c, slot, at);
    }
}

static size_t take_grpc(Connection *c, double at) {
    size_t used = 0;
    while (c->in_size - used >= 9) {
        const uint8_t *head = c->in + used;
        uint32_t size = head[0] << 16 | head[1] << 8 | head[2];
        if (size > IN_BYTES - 9) fail("a frame is too long");
        if (c->in_size - used < 9 + size) break;
        take_frame(c, head, size, at);
        used += 9 + size;
    }
    if (c->unacknowledged > 1 << 20) {
        frame(c, 4, WINDOW_UPDATE, 0, 0);
        word(c, c->unacknowledged);
        c->unacknowledged = 0;
    }
    return used;
}

static size_t take_resp(Connection *c, double at) {
    size_t used = 0;
    while (c->in_size > used) {
        const uint8_t *text = c->in + used, *end = memchr(text, '\n', c->in_size - used);
        if (!end) break;
        size_t size = end + 1 - text;
        if (text[0] == '$' && text[1] != '-') size += strtoul((const char *)text + 1, 0, 10) + 2;
        if (c->in_size - used < size) break;
        if (!c->waiting) fail("an answer that nobody asked for");
        Slot *slot = &c->slots[c->oldest % SLOTS];
        const Question *q = &questions[slot->question];
        slot->seen = size;
        slot->wrong = size != q->answer_size || memcmp(text, q->answer, size) != 0;
        settle(c, slot, at);
        used += size;
    }
    return used;
}

static void take_in(Connection *c) {
    ssize_t got = read(c->fd, c->in + c->in_size, IN_BYTES - c->in_size);
    if (got == 0 || (got < 0 && errno != EAGAIN)) fail("the server closed the connection");
    if (got < 0) return;
    c->in_size += got;
    size_t used = is_grpc ? take_grpc(c, now()) : take_resp(c, now());
    memmove(c->in, c->in + used, c->in_size - used);
    c->in_size -= used;
}

static void send_out(Connection *c, uint32_t place) {
    if (!c->out_size) return;
    ssize_t went = write(c->fd, c->out, c->out_size);
    if (went < 0 && errno != EAGAIN) fail("the server closed the connection");
    if (went > 0) {
        memmove(c->out, c->out + went, c->out_size - went);
        c->out_size -= went;
    }
    int blocked = c->out_size > 0;
    if (blocked == c->blocked) return;
    struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.u32 = place};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->blocked = blocked;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void show(const char *name, Times *times) {
    const struct { const char *name; double share; } shown[] = {
        {"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}, {"max", 1}};
    if (times->count) qsort(times->values, times->count, sizeof(float), ascending);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        size_t place = times->count ? (times->count - 1) * shown[i].share : 0;
        printf(", \"%s%s_us\": %.1f", name, shown[i].name,
               times->count ? times->values[place] * 1e6 : 0);
    }
}

static void report(double seconds, uint64_t answered) {
    printf("{\"sent\": %lu, \"held\": %lu, \"right\": %lu, \"wrong\": %lu, \"refused\": %lu, "
           "\"missing\": %lu, \"seconds\": %.3f, \"per_s\": %.1f",
           sent, held, right, wrong, refused, missing, seconds, answered / seconds);
    show("", &latencies);
    show("node_", &node_latencies);
    show("refused_", &refusals);
    show("late_", &lateness);
    puts("}");
}

int main(int count, char **words) {
    int holds = count == 12 && !strcmp(words[11], "held") && atof(words[6]) > 0;
    if (count != 11 && count != 12) return fprintf(stderr, "see the head of load.c\n"), 2;
    is_grpc = !strcmp(words[1], "grpc");
    const char *host = words[2], *path = words[4];
    int port = atoi(words[3]);
    read_questions(words[5]);
    double rate = atof(words[6]), warm = atof(words[9]), seconds = atof(words[10]);
    uint32_t in_flight = atoi(words[7]), connections = atoi(words[8]);
    headers[headers_size++] = 0x83;  // :method POST
    headers[headers_size++] = 0x86;  // :scheme http
    literal(":path", path);
    literal(":authority", "eir");
    literal("content-type", "application/grpc");
    literal("te", "trailers");
    prctl(PR_SET_TIMERSLACK, 1000);
    signal(SIGINT, end_early);
    epoll = epoll_create1(0);
    Connection *all = calloc(connections, sizeof(Connection));
    for (uint32_t i = 0; i < connections; i++) connect_to(&all[i], host, port, i);
    uint32_t most = rate > 0 ? SLOTS - 1 : (in_flight + connections - 1) / connections;
    unsigned short seed[3] = {14, 15, 16};
    double begun = now() + 0.2, due = begun, end = begun + warm + seconds;
    measured_from = begun + warm, measured_to = end;
    uint32_t turn = 0, question = 0;
    for (double at = now(); at < end || outstanding; at = now()) {
        if (told_to_end && at < end) {
            end = measured_to = at;
            seconds = at > measured_from ? at - measured_from : 1e-9;
        }
        if (at > end + DRAIN_SECONDS) break;
        for (uint32_t tried = 0; tried < connections && at < end && at >= begun;) {
            if (rate > 0 && (due > at || due >= end)) break;
            Connection *c = &all[turn++ % connections];
            int has = has_room(c, &questions[question], most);
            if (!has && (++tried < connections || !holds)) continue;
            tried = 0;
            if (has) ask(c, question, rate > 0 ? due : at, at);
            else held++;
            question = (question + 1) % question_count;
            if (rate > 0) due += -log(1 - erand48(seed)) / rate;
        }
        for (uint32_t i = 0; i < connections; i++) send_out(&all[i], i);
        // What is due and has no room waits for an answer, and must not spin: by answers taken one at
        // a time a server is slower than at its peak, and would never be done with what is late.
        double until = at < begun ? begun : rate > 0 && due > at && due < end ? due : at + 0.05;
        double pause = until - now();
        struct timespec wait = {0, pause <= 0 ? 0 : pause > 0.05 ? 50000000 : (long)(pause * 1e9)};
        struct epoll_event events[64];
        int ready = epoll_pwait2(epoll, events, 64, &wait, NULL);
        for (int i = 0; i < ready; i++)
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_in(&all[events[i].data.u32]);
    }
    missing += outstanding;
    if (rate > 0) report(seconds, right_in_time);
    else report(last_answer > measured_from ? last_answer - measured_from : seconds, right);
    return wrong || refused || missing || !right;
}
