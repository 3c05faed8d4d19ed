// What test_openai_node.sh asks of a server, through the real `openai` package for Node.
//
//     node openai_client.mjs talk PACKAGE URL        chat, streams, tools, structured output, errors, aborts
//     node openai_client.mjs embed PACKAGE URL       embeddings
//
// PACKAGE: the package's folder. Each line "ok: ..." or "FAILED: ..." is one check; the last line is their sum. Retries are off,
// so that every answer is the server's first.

import {pathToFileURL} from 'node:url';

const [part, folder, url] = process.argv.slice(2);
const {default: OpenAI} = await import(pathToFileURL(`${folder}/index.mjs`));
const model = 'tiny', messages = [{role: 'user', content: 'Name three animals.'}];
const counts = {ok: 0, failed: 0};

function check(what, ok, detail) {
    counts[ok ? 'ok' : 'failed']++;
    console.log(ok ? `ok: ${what}` : `FAILED: ${what}: ${JSON.stringify(detail)}`);
}
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function clientFor(more) {
    return new OpenAI({baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 60000, ...more});
}
const client = clientFor();

// The call ends in the package's own class of error.
async function refused(what, kind, call) {
    try {
        check(what, false, await call());
    } catch (e) {
        check(what, e.constructor === kind, {name: e.constructor.name, said: e.message});
        return e;
    }
    return {};
}
const chat = more => client.chat.completions.create({model, messages, temperature: 0, max_tokens: 20, ...more});

async function answers() {
    const whole = await chat(), text = whole.choices[0].message.content;
    check('a chat is answered', text && whole.object === 'chat.completion' && whole.model === model, whole);
    check('usage adds up', whole.usage.total_tokens === whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage);
    let said = '', ended, usage;
    for await (const chunk of await chat({stream: true, stream_options: {include_usage: true}})) {
        said += chunk.choices[0]?.delta.content ?? '';
        ended = chunk.choices[0]?.finish_reason ?? ended;
        usage = chunk.usage ?? usage;
    }
    check('a stream says the same', said === text && ended === whole.choices[0].finish_reason, {said, text, ended});
    check('and its usage', usage?.completion_tokens === whole.usage.completion_tokens, usage);
    const put = await client.chat.completions.stream({model, messages, temperature: 0, max_tokens: 20}).finalContent();
    check('the package puts it together', put === text, put);
    const response = await client.responses.create({model, input: messages, temperature: 0, max_output_tokens: 20});
    check('a response says the same', response.output_text === text, response);
    const older = await client.completions.create({model, prompt: 'In the beginning', max_tokens: 8, logprobs: 2});
    check('a completion tells logprobs', older.choices[0].logprobs.token_logprobs.length === older.usage.completion_tokens, older);
    const listed = [];
    for await (const m of client.models.list()) listed.push(m.id);
    check('models are listed', same(listed, [model]), listed);
}

const schema = {type: 'object', additionalProperties: false, required: ['animal', 'legs'], properties: {
    animal: {type: 'string', minLength: 1, maxLength: 12}, legs: {enum: [0, 2, 4]}}};
const kept = v => same(Object.keys(v), ['animal', 'legs']) && [...v.animal].length > 0 && [...v.animal].length <= 12 && [0, 2, 4].includes(v.legs);

async function structured() {
    const response_format = {type: 'json_schema', json_schema: {name: 'animal', strict: true, schema}};
    const parsed = await client.chat.completions.parse({model, messages, max_tokens: 200, seed: 3, response_format});
    const value = JSON.parse(parsed.choices[0].message.content);
    check('an answer keeps to its schema', kept(value), value);
    const stream = client.chat.completions.stream({model, messages, max_tokens: 200, seed: 4, response_format});
    const streamed = JSON.parse(await stream.finalContent());
    check('so does a streamed one', kept(streamed), streamed);
    const e = await refused('a schema that is refused', OpenAI.BadRequestError, () => chat(
        {response_format: {type: 'json_schema', json_schema: {name: 'no', schema: {not: {}}}}}));
    check('names its place', e.param === 'response_format.json_schema.schema.not', e.param);
}

async function tools() {
    const called = [];
    const look = {type: 'function', function: {name: 'look', description: 'Looks at an animal.', parameters: schema,
        parse: JSON.parse, function: input => { called.push(input); return 'It is there.'; }}};
    const runner = client.chat.completions.runTools({model, messages, tools: [look], tool_choice: 'required',
        parallel_tool_calls: false, max_tokens: 300, seed: 5}, {maxChatCompletions: 2});
    await runner.done();
    check('the package runs the tool that is called, and asks on', called.length === 2 && called.every(kept), called);
    const call = runner.messages.find(m => m.tool_calls), result = runner.messages.find(m => m.role === 'tool');
    check('its call is answered', result?.tool_call_id === call?.tool_calls[0].id && result.content === 'It is there.', runner.messages);
    const bare = [{type: 'function', function: {name: 'look', parameters: schema}}];
    const on = await chat({messages: runner.messages, tools: bare, tool_choice: 'none'});
    check('the dialogue goes on', on.choices[0].message.role === 'assistant' && !on.choices[0].message.tool_calls, on);
    const stream = client.chat.completions.stream({model, messages, tools: bare, tool_choice: 'required',
        parallel_tool_calls: false, max_tokens: 300, seed: 5});
    const streamed = (await stream.finalChatCompletion()).choices[0];
    check('a streamed call is put together', kept(JSON.parse(streamed.message.tool_calls[0].function.arguments))
        && streamed.finish_reason === 'tool_calls', streamed);
}

async function errors() {
    let e = await refused('an unknown model', OpenAI.NotFoundError, () => chat({model: 'other'}));
    check('is told so', e.status === 404 && e.code === 'model_not_found' && e.param === 'model', e);
    e = await refused('an unknown field', OpenAI.BadRequestError, () => chat({frobnicate: 1}));
    check('is named', e.param === 'frobnicate' && e.type === 'invalid_request_error', e);
    await refused('a range', OpenAI.BadRequestError, () => chat({temperature: 3}));

    const until = new AbortController(), long = {model, prompt: 'a', max_tokens: 1900, stream: true, temperature: 1, seed: 1};
    const ignore_eos = {ignore_eos: true};
    const stream = await client.completions.create({...long, ...ignore_eos}, {signal: until.signal});
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) until.abort();
    check('an aborted stream ends', chunks < 100, chunks);
    const before = new AbortController();
    before.abort();
    await refused('an aborted request', OpenAI.APIUserAbortError, () => client.models.list({signal: before.signal}));
    let taken = 0;
    for await (const _ of await client.completions.create({...long, ...ignore_eos})) if (++taken === 3) break;
    check('one that is left is answered no more, and the next is', taken === 3 && (await chat()).choices.length === 1, taken);
}

async function embed() {
    const input = ['A whale lives in the sea.', 'a', 'A whale lives in the sea.'];
    const plain = await client.embeddings.create({model, input, encoding_format: 'float'});
    const packed = await client.embeddings.create({model, input}); // as the package asks by itself: base64
    const vectors = packed.data.map(d => Array.from(d.embedding));
    const far = Math.max(...plain.data.flatMap((d, i) => d.embedding.map((x, k) => Math.abs(x - vectors[i][k]))));
    check('base64 says what numbers say', far < 1e-7 && vectors[0].length === plain.data[0].embedding.length, far);
    check('of length 1', vectors.every(v => Math.abs(Math.hypot(...v) - 1) < 1e-5));
    check('equal texts have equal ones, others another', same(vectors[0], vectors[2]) && !same(vectors[0], vectors[1]));
    const alone = Array.from((await client.embeddings.create({model, input: input[0]})).data[0].embedding);
    check('alone it is the same to the bit', same(alone, vectors[0]));
    const few = (await client.embeddings.create({model, input: 'a', dimensions: 8, encoding_format: 'float'})).data[0].embedding;
    check('dimensions are the first', few.length === 8 && Math.abs(few[0] / few[1] - vectors[1][0] / vectors[1][1]) < 1e-3, few);
    const e = await refused('a chat', OpenAI.BadRequestError, () => chat());
    check('is none of its tasks', e.code === 'unsupported_task', e);
}

try {
    for (const run of part === 'talk' ? [answers, structured, tools, errors] : [embed]) await run();
} catch (e) {
    check('all is asked', false, e.stack);
}
console.log(`${counts.ok} passed, ${counts.failed} failed, 0 skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
