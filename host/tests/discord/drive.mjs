// Drives the loopback Discord with discord.js, a client made by others, and says what worked.
//
//     node drive.mjs PORT        (DISCORD_JS: the folder that has node_modules/discord.js; else the current one)
//
// It waits for events, each with a deadline, and never for a fixed time. It prints one line of JSON and exits 0 if every
// check held, else 1. It does not start the server, and does not look at the server's files.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const home = process.env.DISCORD_JS ?? process.cwd();
const require = createRequire(pathToFileURL(join(home, 'resolve-from-here.js')));
const {
  ActionRowBuilder, ButtonBuilder, ButtonStyle, ChannelType, Client, Events, GatewayIntentBits, MessageFlags, ModalBuilder,
  Partials, PollLayoutType, TextInputBuilder, TextInputStyle,
} = require('discord.js');

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port <= 0) {
  console.log(JSON.stringify({ ok: false, error: 'The port of the server is needed as the first argument.' }));
  process.exit(1);
}
const base = `http://127.0.0.1:${port}`;
const DEADLINE = 12_000;

const client = new Client({
  rest: { api: `${base}/api`, version: '10' },
  partials: [Partials.Channel, Partials.Message, Partials.Reaction],
  intents: [
    GatewayIntentBits.Guilds, GatewayIntentBits.GuildMessages, GatewayIntentBits.MessageContent,
    GatewayIntentBits.GuildMessageReactions, GatewayIntentBits.GuildMessagePolls, GatewayIntentBits.DirectMessages,
    GatewayIntentBits.GuildMembers, GatewayIntentBits.GuildMessageTyping,
  ],
});
client.on(Events.Error, (error) => console.error(error.message));

async function control(op, body = {}) {
  const answer = await fetch(`${base}/_test/${op}`, { method: 'POST', body: JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) throw new Error(`control ${op}: ${json.error}`);
  return json;
}

/** The first event that fits; fails at the deadline. */
function event(name, fits = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(reject, new Error(`no ${name} within ${DEADLINE} ms`)), DEADLINE);
    const listener = (...values) => {
      if (fits(...values)) finish(resolve, values);
    };
    function finish(settle, value) {
      clearTimeout(timer);
      client.off(name, listener);
      settle(value);
    }
    client.on(name, listener);
  });
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

const checks = {};
let current = 'login';
async function check(name, body) {
  current = name;
  await body();
  checks[name] = true;
}

let world;
let channel;

async function run() {
  world = await control('world');

  await check('ready with guilds', async () => {
    const ready = event(Events.ClientReady);
    await client.login(world.token);
    await ready;
    expect(client.guilds.cache.has(world.guild), 'the guild is not there');
    expect(client.application.id === world.application, 'another application id');
    channel = client.channels.cache.get(world.channel);
    expect(channel?.name === 'general', 'the channel is not there');
  });

  let said;
  await check('message of a person', async () => {
    const [waited, made] = await Promise.all([event(Events.MessageCreate, (m) => m.content === 'ping'), control('say', { text: 'ping' })]);
    said = waited[0];
    expect(said.id === made.id && said.member?.displayName === 'Alice' && said.guildId === world.guild, 'wrong author or guild');
  });

  let own;
  await check('reply with reference', async () => {
    const echo = event(Events.MessageCreate, (m) => m.content === 'pong');
    own = await said.reply('pong');
    expect(own.reference?.messageId === said.id && own.mentions.repliedUser?.id === world.user, 'no reference');
    const [heard] = await echo;
    expect(heard.id === own.id && heard.author.id === world.bot, 'the echo is another message');
  });

  await check('reply of a person', async () => {
    const [[reply]] = await Promise.all([event(Events.MessageCreate, (m) => m.content === 'answer'), control('say', { text: 'answer', reply_to: own.id })]);
    expect((await reply.fetchReference()).id === own.id, 'the reference leads elsewhere');
  });

  await check('forward', async () => {
    const [[forward]] = await Promise.all([
      event(Events.MessageCreate, (m) => m.messageSnapshots.size === 1), control('say', { forward_of: said.id }),
    ]);
    expect(forward.messageSnapshots.first().content === 'ping', 'the snapshot has another text');
  });

  await check('edit', async () => {
    const [[, changed]] = await Promise.all([event(Events.MessageUpdate, (_, m) => m.id === said.id), control('edit', { id: said.id, text: 'ping 2' })]);
    expect(changed.content === 'ping 2' && changed.editedTimestamp, 'the text is the old one');
    own = await own.edit('pong 2');
    expect(own.content === 'pong 2', 'the own text is the old one');
  });

  await check('reactions', async () => {
    const emoji = await control('emoji', { name: 'party' });
    for (const wanted of ['👍', emoji]) {
      const name = wanted.name ?? wanted;
      const [[added]] = await Promise.all([event(Events.MessageReactionAdd, (r) => r.emoji.name === name), control('react', { id: own.id, emoji: wanted })]);
      expect(added.message.id === own.id && added.emoji.id === (wanted.id ?? null), 'another message or emoji');
      await Promise.all([event(Events.MessageReactionRemove, (r) => r.emoji.name === name), control('unreact', { id: own.id, emoji: wanted })]);
    }
    const mine = event(Events.MessageReactionAdd, (_, user) => user.id === world.bot);
    await said.react(`party:${emoji.id}`);
    await mine;
    await said.react('🎉');
    await said.reactions.cache.get('🎉').users.remove(client.user);
  });

  await check('delete', async () => {
    await Promise.all([event(Events.MessageDelete, (m) => m.id === own.id), own.delete()]);
    const more = [await control('say', { text: 'a' }), await control('say', { text: 'b' })].map((m) => m.id);
    const [[bulk]] = await Promise.all([event(Events.MessageBulkDelete), channel.bulkDelete(more)]);
    expect(bulk.size === 2, 'not both were deleted');
  });

  await check('upload and download', async () => {
    const content = Buffer.from('hello, files');
    const sent = await channel.send({ files: [{ attachment: content, name: 'hello there.txt', description: 'a greeting' }] });
    const file = sent.attachments.first();
    expect(file.size === content.length && file.description === 'a greeting', 'wrong size or description');
    const got = await fetch(file.url);
    expect(got.ok && Buffer.from(await got.arrayBuffer()).equals(content), 'other bytes came back');
    expect((await fetch(file.url.split('?')[0])).status === 404, 'an unsigned address was served');
    const [[theirs]] = await Promise.all([
      event(Events.MessageCreate, (m) => m.attachments.size > 0 && m.author.id === world.user),
      control('say', { files: [{ name: 'x.bin', base64: content.toString('base64'), type: 'application/x-test' }] }),
    ]);
    expect(theirs.attachments.first().contentType === 'application/x-test', 'wrong content type');
  });

  await check('poll', async () => {
    await control('limits', { enabled: false });
    const poll = { question: { text: 'Tea?' }, answers: [{ text: 'yes' }, { text: 'no' }], duration: 1, allowMultiselect: false, layoutType: PollLayoutType.Default };
    const sent = await channel.send({ poll });
    expect(sent.poll?.answers.size === 2, 'the poll has no answers');
    const [[answer]] = await Promise.all([event(Events.MessagePollVoteAdd), control('vote', { id: sent.id, answer: 1 })]);
    expect(answer.id === 1, 'another answer');
    const [[result]] = await Promise.all([event(Events.MessageCreate, (m) => m.type === 46), sent.poll.end()]);
    expect(result.embeds[0]?.fields.some((f) => f.name === 'victor_answer_text' && f.value === 'yes'), 'no winner');
  });

  await check('threads', async () => {
    const root = await channel.send('root');
    const thread = await root.startThread({ name: 'talk' });
    expect(thread.id === root.id, 'the thread has an id of its own');
    await Promise.all([event(Events.MessageCreate, (m) => m.channelId === thread.id && m.content === 'inside'), control('say', { channel: thread.id, text: 'inside' })]);
    await Promise.all([event(Events.ThreadUpdate, (_, t) => t.archived), control('thread_update', { channel: thread.id, archived: true })]);
    const forum = await control('channel', { name: 'ideas', type: 'forum', tags: ['bug'] });
    const [[post]] = await Promise.all([event(Events.ThreadCreate, (t) => t.parentId === forum.id), control('thread', { channel: forum.id, name: 'An idea', text: 'first' })]);
    expect((await post.fetchStarterMessage()).content === 'first', 'no first message');
    const own = await client.channels.cache.get(forum.id).threads.create({ name: 'Mine', message: { content: 'own post' } });
    expect((await own.fetchStarterMessage()).content === 'own post', 'no own first message');
  });

  await check('webhook', async () => {
    const hook = await channel.createWebhook({ name: 'Relay' });
    const [[heard], sent] = await Promise.all([
      event(Events.MessageCreate, (m) => m.webhookId === hook.id),
      hook.send({ content: 'as bob', username: 'Bob', avatarURL: `${base}/bob.png` }),
    ]);
    expect(heard.author.username === 'Bob' && heard.id === sent.id, 'another name');
    await hook.editMessage(sent.id, 'as bob 2');
    await hook.deleteMessage(sent.id);
  });

  await check('direct message', async () => {
    const { channel: id } = await control('dm');
    const [[heard]] = await Promise.all([event(Events.MessageCreate, (m) => m.channelId === id), control('say', { channel: id, text: 'psst' })]);
    expect(heard.guildId === null && (await heard.reply('yes?')).channelId === id, 'not a direct message');
  });

  await check('slash command, deferred then edited', async () => {
    await client.application.commands.set([{ name: 'echo', description: 'Says it again', options: [{ name: 'text', description: 'What', type: 3, required: true }] }]);
    const [[asked], made] = await Promise.all([event(Events.InteractionCreate), control('interact', { kind: 'slash', name: 'echo', options: { text: 'hi' } })]);
    expect(asked.isChatInputCommand() && asked.options.getString('text') === 'hi', 'no option');
    await asked.deferReply();
    await asked.editReply(`you said ${asked.options.getString('text')}`);
    await asked.followUp({ content: 'only you', flags: MessageFlags.Ephemeral });
    const seen = await control('interaction', { id: made.id });
    expect(seen.original.content === 'you said hi' && !seen.loading && seen.followups.length === 1, 'not answered');
    const again = await asked.reply('twice').catch((error) => error);
    expect(again instanceof Error, 'a second answer was taken');
  });

  await check('button and form', async () => {
    const row = new ActionRowBuilder().addComponents(new ButtonBuilder().setCustomId('go').setLabel('Go').setStyle(ButtonStyle.Primary));
    const sent = await channel.send({ content: 'press', components: [row] });
    const press = () => Promise.all([event(Events.InteractionCreate), control('interact', { kind: 'button', message: sent.id, custom_id: 'go' })]);
    const [[button]] = await press();
    expect(button.isButton() && button.message.id === sent.id, 'not that button');
    const [[, updated]] = await Promise.all([event(Events.MessageUpdate, (_, m) => m.id === sent.id), button.update('pressed')]);
    expect(updated.content === 'pressed', 'the message was not changed');
    const [[second], made] = await press();
    const input = new TextInputBuilder().setCustomId('name').setLabel('Name').setStyle(TextInputStyle.Short);
    await second.showModal(new ModalBuilder().setCustomId('form').setTitle('Form').addComponents(new ActionRowBuilder().addComponents(input)));
    const [[form]] = await Promise.all([event(Events.InteractionCreate), control('interact', { kind: 'modal', interaction: made.id, fields: { name: 'Ada' } })]);
    expect(form.isModalSubmit() && form.fields.getTextInputValue('name') === 'Ada', 'not the form');
    await form.reply('thanks');
  });

  await check('members of a guild', async () => {
    const guild = client.guilds.cache.get(world.guild);
    const members = await guild.members.fetch();
    expect(members.has(world.user) && members.has(world.bot), 'members are missing');
    expect(guild.members.me.permissions.has('SendMessages') && !guild.members.me.permissions.has('Administrator'), 'wrong permissions');
    const [[joined]] = await Promise.all([event(Events.GuildCreate), control('guild', { name: 'Second' })]);
    expect(joined.name === 'Second' && joined.channels.cache.some((c) => c.type === ChannelType.GuildText), 'no channels');
  });

  await check('429 honoured', async () => {
    await control('limits');
    await control('ratelimit', { after: 0.8 });
    const began = Date.now();
    await channel.send('after the limit');
    expect(Date.now() - began >= 750, 'the client did not wait');
  });

  await check('drop 1001 is resumed without loss', async () => {
    const heard = [];
    const listener = (m) => heard.push(m.content);
    client.on(Events.MessageCreate, listener);
    const resumed = event(Events.ShardResume);
    await control('drop', { code: 1001 });
    await control('burst', { count: 5, text: 'away' });
    await Promise.all([event(Events.MessageCreate, (m) => m.content === 'away 5'), resumed]);
    client.off(Events.MessageCreate, listener);
    expect(heard.filter((text) => text.startsWith('away')).join() === 'away 1,away 2,away 3,away 4,away 5', `heard ${heard}`);
  });

  await check('invalidate leads to a new session', async () => {
    const before = (await control('sessions')).sessions[0].id;
    await Promise.all([event(Events.ShardReady), control('invalidate', { resumable: false })]);
    const after = (await control('sessions')).sessions.find((s) => s.connected).id;
    expect(before !== after, 'it is the same session');
  });

  await check('unanswered heartbeat leads to a new connection', async () => {
    await control('gateway', { heartbeat_ms: 400 });
    await Promise.all([event(Events.ShardResume), control('drop', { code: null })]);
    await control('silence', { on: true });
    await event(Events.ShardReconnecting);
    await control('silence', { on: false });
    await event(Events.ShardResume);
    await Promise.all([event(Events.MessageCreate, (m) => m.content === 'still there'), control('say', { text: 'still there' })]);
  });
}

run()
  .then(() => ({ ok: true, checks }))
  .catch((error) => ({ ok: false, checks, failed: current, error: error.stack ?? String(error) }))
  .then((report) => {
    console.log(JSON.stringify(report));
    process.exit(report.ok ? 0 : 1);
  });
