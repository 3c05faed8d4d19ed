/*
 * fuzz_chat: any text as a chat template, rendered with one conversation. Must come to an end
 * within the budget of a rendering, with a text or an error.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/text/chat.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "[{\"role\":\"system\",\"content\":\"Be brief.\"},"
    "{\"role\":\"user\",\"content\":\" hi \\u00e9\"},"
    "{\"role\":\"assistant\",\"content\":\"<think>x</think>y\",\"n\":[1,2.5,null]}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *messages = NULL;
    struct chat *c = NULL;
    struct err e = {0};
    mem_autofree char *text = mem_strndup((const char *)data, size);
    buf_auto struct buf out;
    buf_init(&out, 1 << 16);
    int64_t from = clock_thread_ms();
    if (text && !json_parse(conversation, sizeof conversation - 1, &messages, &e) &&
        !chat_parse(text, "<s>", "</s>", &c, &e))
        chat_render(c, messages, true, &out, &e);
    if (clock_thread_ms() - from > 2 * CHAT_RENDER_MS)
        abort();
    json_destroy(messages);
    chat_close(c);
    return 0;
}
