// The demo chat: what an application does with lull.js. A pane is one participant with a session of its own.
import { open } from '/lull.js';

let isAgeing = false;
const panes = document.querySelector('#panes');
const STATUS = {
  none: 'Not begun', draft: 'Draft', active: 'Active', paused: 'Paused', ended: 'Ended', archived: 'Archived',
};
const FILE = { uploaded: '', kept: ' (waits for the network)', 'not-kept': ' (waits: keep this page open)' };

/** Ask the application behind the demo. */
const ask = async (path, body) => {
  const answer = await fetch(`/demo/${path}`, body && {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw Object.assign(new Error('The demo’s server refused this.'), { status: answer.status });
  return answer.json();
};

const element = (name, text, classes = '') =>
  Object.assign(document.createElement(name), { textContent: text, className: classes });
const button = (text, act, classes = 'button quiet') =>
  Object.assign(element('button', text, classes), { type: 'button', onclick: act });
const plural = (count, unit) => `${count} ${unit}${count === 1 ? '' : 's'}`;

class Pane {
  constructor({ title, about, author, options }) {
    this.author = author;
    this.known = new Map(); // messages that the server has, by their keys
    this.last = 0;
    this.queue = [];
    this.options = { api: '', ...options, deliver: ({ sessionId, text, idempotencyKey }) =>
      ask('messages', { session: sessionId, key: idempotencyKey, author, text }) };
    this.root = document.querySelector('#pane').content.firstElementChild.cloneNode(true);
    const id = `pane-${options.key}`;
    this.find('h2').textContent = title;
    this.find('h2').id = id;
    this.root.setAttribute('aria-labelledby', id);
    this.find('.about').textContent = about;
    this.find('label').textContent = `Message: ${title}`;
    this.find('label').htmlFor = this.find('.text').id = `text-${options.key}`;
    this.find('.hint').id = `hint-${options.key}`;
    this.find('.attach').setAttribute('aria-describedby', this.find('.hint').id);
    this.find('.file').setAttribute('aria-label', `File: ${title}`);
    this.find('.actions').setAttribute('aria-label', `Try: ${title}`);
    panes.append(this.root);
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  async start() {
    this.lull = await open(this.options);
    const { lull } = this;
    lull.on('state', view => this.show(view));
    lull.on('queue', ({ messages, retryAt }) => {
      this.queue = messages;
      this.retryAt = retryAt;
      this.draw();
    });
    lull.on('warning', due => this.warn(due));
    lull.on('expired', ({ texts, message }) => texts.length
      && this.tell(`${message} These messages were not sent: “${texts.join('”, “')}”`, 'bad'));
    lull.on('returned', () => this.tell('Welcome back. Your draft was restored with its files.', 'good'));
    lull.on('lost', ({ name, reason }) => this.tell(`The file “${name}” is lost: ${reason}`, 'bad'));
    lull.on('error', ({ code, message, texts, retryAt }) => {
      if (code === 'waiting') return;
      const back = texts.length ? ` Not sent: “${texts.join('”, “')}”` : '';
      this.tell(message + back, 'bad');
    });
    this.find('form').onsubmit = event => {
      event.preventDefault();
      this.send();
    };
    this.find('.text').onkeydown = event => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    };
    this.find('.attach').onclick = () => this.canAttach() ? this.find('.file').click() : this.explain();
    this.find('.file').onchange = ({ target }) => {
      for (const file of target.files) this.attach(file);
      target.value = '';
    };
    this.find('.stay').onclick = () => lull.stay().catch(({ message }) => this.tell(message, 'bad'));
    this.refresh();
    setInterval(() => document.hidden || this.refresh(), 2000);
    return this;
  }

  canAttach() {
    return this.view?.early !== false || !!this.view?.sessionId;
  }

  explain() {
    this.tell('Files can be attached after the first message here: early sessions are turned off.', '');
  }

  show(view) {
    this.view = view;
    const badge = this.find('.status');
    badge.textContent = STATUS[view.status];
    badge.dataset.status = view.status;
    this.find('.presence').hidden = !view.present;
    this.find('.presence').textContent = 'Here';
    const can = this.canAttach();
    this.find('.attach').setAttribute('aria-disabled', String(!can));
    this.find('.hint').textContent = !can ? 'Attach works after the first message: early sessions are turned off.'
      : view.kept ? '' : 'This browser keeps nothing: a reload begins anew.';
    this.find('.files').replaceChildren(...view.files.map(({ name, state }) => element('li', name + FILE[state])));
    this.find('.files').hidden = !view.files.length;
  }

  async send(text = this.find('.text').value.trim(), options) {
    if (!text) return this.find('.text').focus();
    this.find('.text').value = '';
    try {
      await this.lull.send(text, options);
    } catch ({ message, texts }) {
      if (!this.find('.text').value) this.find('.text').value = text;
    }
    await this.refresh();
  }

  async attach(file) {
    try {
      await this.lull.attach(file);
    } catch ({ code, message }) {
      if (code === 'early-off') this.explain();
    }
  }

  warn(due) {
    const banner = this.find('.warning');
    banner.hidden = !due;
    if (due) {
      const minutes = Math.max(1, Math.round(due.secondsLeft / 60));
      banner.querySelector('p').textContent = `This session closes in ${plural(minutes, 'minute')} unless someone stays.`;
    }
  }

  tell(text, kind) {
    const notice = element('div', '', `notice ${kind}`);
    notice.append(element('p', text), button('OK', () => notice.remove()));
    this.find('.notices').replaceChildren(notice);
  }

  async refresh() {
    const session = this.lull.state.sessionId;
    if (!session || isAgeing || !navigator.onLine) return;
    try {
      for (const message of await ask(`messages?session=${session}&after=${this.last}`)) {
        this.known.set(message.key, message);
        this.last = Math.max(this.last, message.id);
      }
      if (this.lull.state.present && this.options.kind === 'room') await this.people();
    } catch {
      // the next turn asks again
    }
    this.draw();
  }

  async people() {
    const people = await this.lull.participants();
    this.find('.people').hidden = false;
    this.find('.people').replaceChildren(...people.map(({ name, state, you }) => {
      const item = element('li', `${name ?? 'Someone'}${you ? ' (you)' : ''}${state === 'away' ? ', away' : ''}`);
      item.dataset.state = state;
      return item;
    }));
  }

  draw() {
    const log = this.find('.log'), stays = log.scrollTop + log.clientHeight < log.scrollHeight - 8;
    const lines = [...this.known.values()].map(({ text, author }) => {
      const line = element('li', text, author === this.author ? 'mine' : '');
      if (author !== this.author) line.prepend(element('small', author));
      return line;
    });
    for (const { key, text, state } of this.queue) {
      if (this.known.has(key) || state === 'sent') continue;
      const line = element('li', text, 'mine waiting');
      if (state === 'ask') {
        const choices = element('div', '', 'choices');
        choices.append(
          button('Send it', () => this.send(text, { evenIfOld: true })),
          button('Discard', () => this.lull.discardQueued()),
        );
        line.append(element('small', 'Written over an hour ago. Send it now?'), choices);
      } else {
        line.append(element('small', navigator.onLine && !this.retryAt ? 'Sending …' : 'Queued: sent when you are back online'));
      }
      lines.push(line);
    }
    const drawn = JSON.stringify([...lines].map(line => line.outerHTML)) + STATUS[this.view?.status];
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.find('.messages').replaceChildren(...lines.length ? lines : [element('li', 'No message yet.', 'empty')]);
    if (!stays) log.scrollTop = log.scrollHeight;
  }

  /** Make the session old, and look again as a page does that comes back. */
  async age(minutes, cleanup = false) {
    isAgeing = true; // nothing is asked of a session that may have expired
    await ask('age', { session: this.lull.state.sessionId, minutes, cleanup });
    document.dispatchEvent(new Event('visibilitychange'));
    setTimeout(() => { isAgeing = false; }, 3000);
  }

  actions(buttons, ages) {
    const text = 'Age this session (rows of this machine’s database only):';
    this.find('.actions').replaceChildren(...buttons, element('p', text), ...ages);
  }
}

const joined = new URLSearchParams(location.hash.slice(1));

const guestPane = (session, invite) => new Pane({
  title: 'Ben, invited', author: 'Ben',
  about: 'A second participant, who came by the invitation link.',
  options: { key: 'demo-guest', kind: 'room', join: { sessionId: session, invite, name: 'Ben' } },
}).start();

const showFlag = on => {
  document.querySelector('#flag').textContent = on
    ? 'Early sessions are on: a chat begins as a draft, before its first message.'
    : 'Early sessions are off. Turn them on: ENABLE_EARLY_SESSION_CREATION=true make dev';
};

async function everything() {
  const chat = await new Pane({
    title: 'Your chat', author: 'You',
    about: 'Attach a file before you write. The first message turns the draft into an active chat.',
    options: { key: 'demo-chat' },
  }).start();
  const anew = async () => {
    await chat.lull.forget();
    location.reload();
  };
  chat.actions(
    [button('Begin a new chat', anew)],
    [button('Two days, then clean up', () => chat.age(48 * 60, true))],
  );
  chat.lull.on('state', ({ early }) => early !== undefined && showFlag(early));
  showFlag(chat.lull.state.early ?? true);

  const room = await new Pane({
    title: 'Ada’s room', author: 'Ada',
    about: 'A room closes when it was empty for an hour. Invite a second participant.',
    options: { key: 'demo-room', kind: 'room', name: 'Ada' },
  }).start();
  const invite = async ({ target }) => {
    target.disabled = true;
    const { token } = await room.lull.call('POST', '/invites', { expiresInHours: 1 });
    const link = Object.assign(element('a', 'Ben’s link'), {
      href: `/demo#${new URLSearchParams({ session: room.lull.state.sessionId, invite: token })}`, target: '_blank',
    });
    target.replaceWith(link);
    await guestPane(room.lull.state.sessionId, token);
  };
  room.actions([button('Invite Ben', invite)], [
    button('52 minutes: warning', () => room.age(52)),
    button('Two hours: expired', () => room.age(120)),
  ]);
}

if (joined.has('session')) {
  showFlag(true);
  document.querySelector('#flag').textContent = 'You were invited to a room.';
  await guestPane(joined.get('session'), joined.get('invite'));
} else {
  await everything();
}
