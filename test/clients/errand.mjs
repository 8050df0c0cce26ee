// Runs one errand at an MCP endpoint with a TypeScript client, and prints what it saw as JSON.
//
//   node errand.mjs v1|v2 legacy|modern|auto http|sse|ws URL
//   node errand.mjs v1|v2 legacy|modern|auto stdio COMMAND ARGS...
//
// v1 is @modelcontextprotocol/sdk, which knows only the legacy revisions; v2 is @modelcontextprotocol/client.

const [sdk, era, kind, ...target] = process.argv.slice(2);

const answers = { name: 'Alice', color: 'blue' };
const elicited = request => {
  const fields = request.params.requestedSchema?.required ?? [];
  return { action: 'accept', content: Object.fromEntries(fields.map(field => [field, answers[field]])) };
};
const sampled = () => ({ role: 'assistant', model: 'none', content: { type: 'text', text: 'Paris' } });
const capabilities = { elicitation: {}, sampling: {} };
// Progress is taken from the notifications themselves: both SDKs drop what they are asked to report by onprogress
// when it comes in one read with the result.
const progress = [];
const progressed = notification => { progress.push(notification.params.progress); };
const self = { name: 'errand', version: '1' };

async function connectV1() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { ElicitRequestSchema, CreateMessageRequestSchema, ProgressNotificationSchema } = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client(self, { capabilities });
  client.setRequestHandler(ElicitRequestSchema, elicited);
  client.setRequestHandler(CreateMessageRequestSchema, sampled);
  client.setNotificationHandler(ProgressNotificationSchema, progressed);
  await client.connect(await transportV1());
  return client;
}

async function transportV1() {
  switch (kind) {
    case 'http': {
      const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
      return new StreamableHTTPClientTransport(new URL(target[0]));
    }
    case 'sse': {
      const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
      return new SSEClientTransport(new URL(target[0]));
    }
    case 'ws': {
      const { WebSocketClientTransport } = await import('@modelcontextprotocol/sdk/client/websocket.js');
      return new WebSocketClientTransport(new URL(target[0]));
    }
    case 'stdio': {
      const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
      return new StdioClientTransport({ command: target[0], args: target.slice(1) });
    }
  }
  throw new Error(`v1 has no transport ${kind}`);
}

async function connectV2() {
  const v2 = await import('@modelcontextprotocol/client');
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
  const client = new v2.Client(self, { capabilities, versionNegotiation: { mode } });
  client.setRequestHandler('elicitation/create', elicited);
  client.setRequestHandler('sampling/createMessage', sampled);
  client.setNotificationHandler('notifications/progress', progressed);
  let transport;
  if (kind === 'http') {
    transport = new v2.StreamableHTTPClientTransport(new URL(target[0]));
  } else if (kind === 'sse') {
    transport = new v2.SSEClientTransport(new URL(target[0]));
  } else if (kind === 'stdio') {
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
    transport = new StdioClientTransport({ command: target[0], args: target.slice(1) });
  } else {
    throw new Error(`v2 has no transport ${kind}`);
  }
  await client.connect(transport);
  return client;
}

const text = result => result.content.map(block => block.text ?? '').join('\n');

async function run(client) {
  const call = (name, args = {}) => client.callTool({ name, arguments: args, _meta: { progressToken: `token of ${name}` } });
  const seen = {
    tools: (await client.listTools()).tools.length,
    prompts: (await client.listPrompts()).prompts.length,
    resources: (await client.listResources()).resources.length,
    simple: text(await call('test_simple_text')),
    asked: text(await call('test_input_required_result_multi_round')),
    sampled: text(await call('test_sampling', { prompt: 'Which town?' })),
    failed: (await call('test_error_handling')).isError === true,
    resource: (await client.readResource({ uri: 'test://static-text' })).contents[0].text,
    prompt: (await client.getPrompt({ name: 'test_prompt_with_arguments', arguments: { arg1: 'hello', arg2: 'world' } })).messages[0].content.text,
  };
  await call('test_tool_with_progress');
  await new Promise(setImmediate); // the last notification may be handled after the result
  return { ...seen, progress };
}

const client = await (sdk === 'v1' ? connectV1() : connectV2());
try {
  console.log(JSON.stringify(await run(client)));
} finally {
  await client.close();
}
