// The services of nats.c.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <nats/nats.h>

static const int64_t PATIENCE = 20000; // milliseconds

static json_t *wanted;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(natsStatus status)
{
    if (status != NATS_OK)
        fail(natsStatus_GetText(status));
}

static void check_micro(microError *error)
{
    char text[512];
    if (error != NULL)
        fail(microError_String(error, text, sizeof(text)));
}

static json_t *parsed(const char *text, size_t size)
{
    json_error_t error;
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY, &error);
    if (value == NULL)
        fail(error.text);
    return value;
}

static void say(const char *word, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    printf("%s%s\n", word, text);
    fflush(stdout);
    free(text);
}

static const char *string(const char *key)
{
    return json_string_value(json_object_get(wanted, key));
}

static bool is(microRequest *request, const char *text)
{
    size_t size = strlen(text);
    return (size_t)microRequest_GetDataLength(request) == size && memcmp(microRequest_GetData(request), text, size) == 0;
}

// Keys and values in turn, as nats.c takes them.
static natsMetadata metadata(const char *key)
{
    static const char *kept[2][64];
    static int used = 0;
    json_t *object = json_object_get(wanted, key);
    const char **list = kept[used++];
    const char *name;
    json_t *value;
    int count = 0;
    json_object_foreach(object, name, value)
    {
        list[2 * count] = name;
        list[2 * count + 1] = json_string_value(value);
        count++;
    }
    return (natsMetadata){.List = list, .Count = count};
}

static microError *echo(microRequest *request)
{
    const char *data = microRequest_GetData(request);
    int size = microRequest_GetDataLength(request);
    const char *trace = NULL;
    natsMsg *reply = NULL;
    if (is(request, string("unanswered")))
        return NULL;
    if (natsMsgHeader_Get(microRequest_GetMsg(request), "Trace", &trace) != NATS_OK)
        return microRequest_Respond(request, data, size);
    // Its answers have no headers, other messages have.
    check(natsMsg_Create(&reply, microRequest_GetReply(request), NULL, data, size));
    check(natsMsgHeader_Set(reply, "Traced", trace));
    check(natsConnection_PublishMsg(microRequest_GetConnection(request), reply));
    natsMsg_Destroy(reply);
    return NULL;
}

// What a handler returns is answered with its status as the code, or with 500.
static microError *fail_always(microRequest *request)
{
    const char *text = NULL;
    if (is(request, "expected"))
        text = string("text");
    else if (is(request, "unicode"))
        text = string("unicode_text");
    else
        return micro_ErrorfCode(500, "%s", "the colour of the database");
    microError *error = micro_ErrorfCode(json_integer_value(json_object_get(wanted, "code")), "%s", text);
    return microRequest_RespondCustom(request, error, string("data"), strlen(string("data")));
}

static void serve(natsConnection *nc, const char *contract)
{
    char line[64], versions[64];
    microService *service = NULL;
    microGroup *group = NULL;
    microServiceInfo *info = NULL;
    wanted = parsed(contract, strlen(contract));
    microServiceConfig config = {
        .Name = string("name"),
        .Version = string("version"),
        .Description = string("description"),
        .Metadata = metadata("metadata"),
    };
    microGroupConfig prefix = {.Prefix = string("name")};
    microEndpointConfig echoing = {.Name = "echo", .Handler = echo, .Metadata = metadata("endpoint_metadata")};
    microEndpointConfig failing = {
        .Name = "fail",
        .Handler = fail_always,
        .QueueGroup = string("failing_queue_group"),
    };
    check_micro(micro_AddService(&service, nc, &config));
    check_micro(microService_AddGroup(&group, service, &prefix));
    check_micro(microGroup_AddEndpoint(group, &echoing));
    check_micro(microGroup_AddEndpoint(group, &failing));
    check(natsConnection_FlushTimeout(nc, PATIENCE));
    check_micro(microService_GetInfo(&info, service));
    snprintf(versions, sizeof(versions), "nats.c %s", nats_GetVersion());
    say("ready ", json_pack("{s:s,s:s}", "id", info->Id, "versions", versions));
    // It cannot reset its numbers.
    while (fgets(line, sizeof(line), stdin) != NULL)
    {
        puts("done");
        fflush(stdout);
    }
}

// It has no client for services, and no types for their replies.
static json_t *collect(natsConnection *nc, const char *subject, int count)
{
    natsSubscription *subscription = NULL;
    natsInbox *inbox = NULL;
    json_t *replies = json_array();
    check(natsInbox_Create(&inbox));
    check(natsConnection_SubscribeSync(&subscription, nc, inbox));
    check(natsConnection_PublishRequestString(nc, subject, inbox, ""));
    for (int index = 0; index < count; index++)
    {
        natsMsg *reply = NULL;
        check(natsSubscription_NextMsg(&reply, subscription, PATIENCE));
        json_array_append_new(replies, parsed(natsMsg_GetData(reply), natsMsg_GetDataLength(reply)));
        natsMsg_Destroy(reply);
    }
    natsSubscription_Destroy(subscription);
    natsInbox_Destroy(inbox);
    return replies;
}

static void discover(natsConnection *nc, const char *name, const char *id, int count)
{
    static const char *const verbs[] = {MICRO_PING_VERB, MICRO_INFO_VERB, MICRO_STATS_VERB};
    json_t *found = json_object();
    for (int index = 0; index < 3; index++)
    {
        char all[256], by_name[256], by_id[256];
        const char *verb = verbs[index];
        snprintf(all, sizeof(all), "%s.%s", MICRO_API_PREFIX, verb);
        snprintf(by_name, sizeof(by_name), "%s.%s.%s", MICRO_API_PREFIX, verb, name);
        snprintf(by_id, sizeof(by_id), "%s.%s.%s.%s", MICRO_API_PREFIX, verb, name, id);
        json_t *replies = json_object();
        json_object_set_new(replies, "all", collect(nc, all, count));
        json_object_set_new(replies, "name", collect(nc, by_name, count));
        json_object_set_new(replies, "id", collect(nc, by_id, 1));
        json_object_set_new(found, verbs[index], replies);
    }
    say("", found);
}

static json_t *called(natsConnection *nc, const char *subject, const char *data)
{
    natsMsg *request = NULL, *reply = NULL;
    const char *traced = NULL, *text = NULL, *code = NULL;
    check(natsMsg_Create(&request, subject, NULL, data, strlen(data)));
    check(natsMsgHeader_Set(request, "Trace", "a-1"));
    check(natsConnection_RequestMsg(&reply, nc, request, PATIENCE));
    json_t *result = json_pack("{s:s%}", "data", natsMsg_GetData(reply), natsMsg_GetDataLength(reply));
    if (natsMsgHeader_Get(reply, "Traced", &traced) == NATS_OK)
        json_object_set_new(result, "traced", json_string(traced));
    if (natsMsgHeader_Get(reply, MICRO_ERROR_HDR, &text) == NATS_OK)
    {
        check(natsMsgHeader_Get(reply, MICRO_ERROR_CODE_HDR, &code));
        json_object_set_new(result, "error", json_pack("{s:s,s:s}", "code", code, "text", text));
    }
    natsMsg_Destroy(request);
    natsMsg_Destroy(reply);
    return result;
}

static void request(natsConnection *nc, const char *text)
{
    json_t *results = json_object();
    json_t *each;
    size_t index;
    json_array_foreach(parsed(text, strlen(text)), index, each)
    {
        const char *key, *subject, *data;
        json_unpack(each, "[s,s,s]", &key, &subject, &data);
        json_object_set_new(results, key, called(nc, subject, data));
    }
    say("", results);
}

int main(int count, char **arguments)
{
    natsConnection *nc = NULL;
    if (count < 4)
        fail("usage: serve|discover|request URL ...");
    check(natsConnection_ConnectTo(&nc, arguments[2]));
    if (strcmp(arguments[1], "serve") == 0)
        serve(nc, arguments[3]);
    else if (strcmp(arguments[1], "discover") == 0 && count == 6)
        discover(nc, arguments[3], arguments[4], atoi(arguments[5]));
    else
        request(nc, arguments[3]);
    natsConnection_Destroy(nc);
    nats_Close();
    return 0;
}
