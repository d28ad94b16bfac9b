// The approval page. It asks the browser for passkeys and checks, before anybody touches a key, that what will be signed is
// what is shown: the digest of the lines on the page, the proposal, the person, the choice and the reason must all stand in the
// statement, and the challenge must be the statement's hash.
'use strict';
(() => {
  const VOTE = 'cauldron/vote/v1';
  const SIGN_IN = 'cauldron/sign-in/v1';
  const REGISTRATION = 'cauldron/passkey-registration/v1';
  const PRESENTATION = 'cauldron/presentation/v1';
  // The numbers of choices in a statement.
  const CHOICES = { approve: 0, abstain: 1, withdraw: 2, deny: 3, object: 4, comment: 5 };
  const opened = performance.now();
  // What the node's clock is ahead of this one's.
  const ahead = Number(document.body.dataset.now || Date.now()) - Date.now();
  const text = new TextEncoder();
  const one = (selector, within = document) => within.querySelector(selector);
  const every = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Bytes.
  const joined = (...parts) => {
    const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
    parts.reduce((at, part) => (out.set(part, at), at + part.length), 0);
    return out;
  };
  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const unhex = (digits) => new Uint8Array((digits.match(/../g) || []).map((pair) => parseInt(pair, 16)));
  const base64url = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  const unbase64url = (digits) =>
    Uint8Array.from(atob(digits.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
  const hash = async (domain, data) =>
    new Uint8Array(await crypto.subtle.digest('SHA-256', joined(text.encode(domain), new Uint8Array(1), data)));

  // Deterministic CBOR (RFC 8949, 4.2): as much as a presentation is written in and a statement is read from.
  const head = (major, n) => {
    if (n < 24) return new Uint8Array([(major << 5) | n]);
    if (n < 0x100) return new Uint8Array([(major << 5) | 24, n]);
    if (n < 0x10000) return new Uint8Array([(major << 5) | 25, n >> 8, n & 255]);
    return new Uint8Array([(major << 5) | 26, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);
  };
  const word = (value) => {
    const bytes = text.encode(value);
    return joined(head(3, bytes.length), bytes);
  };
  const presentation = (lines) => {
    const pairs = lines.map(([label, value]) => joined(head(4, 2), word(label), word(value)));
    return joined(head(5, 1), head(0, 0), head(4, lines.length), ...pairs);
  };
  const read = (bytes) => {
    let at = 0;
    const take = (n) => {
      if (at + n > bytes.length) throw new Error('the statement ends too early');
      at += n;
      return bytes.subarray(at - n, at);
    };
    const item = () => {
      const first = take(1)[0];
      const [major, small] = [first >> 5, first & 31];
      if (major === 7) return null;
      const n = small < 24 ? small : take(1 << (small - 24)).reduce((sum, byte) => sum * 256 + byte, 0);
      switch (major) {
        case 0: return n;
        case 2: return take(n).slice();
        case 3: return new TextDecoder('utf-8', { fatal: true }).decode(take(n));
        case 4: return Array.from({ length: n }, item);
        case 5: return new Map(Array.from({ length: n }, () => [item(), item()]));
        default: throw new Error('the statement holds something unknown');
      }
    };
    const value = item();
    if (at !== bytes.length) throw new Error('something follows the statement');
    return value;
  };
  // What the server spells out, so that what is seen can be compared with what is signed.
  const visible = (value) =>
    value.replace(
      /[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu,
      (char) => `\\u{${char.codePointAt(0).toString(16)}}`,
    );

  // Saying what happens.
  const say = (words, place = one('#live')) => { if (place) place.textContent = words; };
  const fail = (error, within) => {
    const place = (within && one('#error', within)) || one('#error');
    if (!place) return;
    const hint = error.hint ? ` ${error.hint[0].toUpperCase()}${error.hint.slice(1)}.` : '';
    place.textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}.${hint}`;
    place.hidden = false;
    place.scrollIntoView({ block: 'nearest' });
  };
  const calm = () => every('#error').forEach((place) => { place.hidden = true; });
  const spoken = (error) => {
    if (error.name === 'NotAllowedError') return new Error('the passkey was not used: it was cancelled, or took too long');
    if (error.name === 'SecurityError') return new Error('this browser uses no passkey of the mesh at this address');
    if (error.name === 'InvalidStateError') return new Error('this device holds such a passkey already');
    return error;
  };

  const ask = async (path, body) => {
    const headers = { accept: 'application/json' };
    const csrf = document.body.dataset.csrf;
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (body !== undefined && csrf) headers['x-cauldron-csrf'] = csrf;
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? 'GET' : 'POST', headers, cache: 'no-store', redirect: 'error',
        credentials: 'same-origin', body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw Object.assign(new Error('the node does not answer'), { hint: 'nothing was recorded; try again' });
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const error = new Error(answer.detail || `the node answered ${response.status}`);
    throw Object.assign(error, { hint: answer.hint, kind: answer.kind, status: response.status });
  };

  const credentials = () => {
    if (!window.PublicKeyCredential) throw new Error('this browser has no passkeys here: it needs TLS, or localhost');
    return navigator.credentials;
  };
  const touch = async (challenge, rpId, allow) => {
    const options = {
      challenge, rpId, userVerification: 'required', timeout: 240000,
      allowCredentials: allow.map((id) => ({ type: 'public-key', id: unbase64url(id) })),
    };
    const made = await credentials().get({ publicKey: options });
    return {
      id: base64url(made.rawId),
      answer: {
        authenticator_data: base64url(made.response.authenticatorData),
        client_data_json: base64url(made.response.clientDataJSON),
        signature: base64url(made.response.signature),
      },
    };
  };
  const fresh = (domain, begun) => hash(domain, joined(unhex(begun.mesh), unhex(begun.node), unhex(begun.nonce)));

  // Ceremonies of somebody who is not signed in.
  const signIn = async (form) => {
    const person = one('#person', form).value.trim();
    const begun = await ask('/sign-in/begin', { person: person || null });
    say('Use your passkey now.');
    const { id, answer } = await touch(await fresh(SIGN_IN, begun), begun.rp_id, begun.allow);
    const { next } = await ask('/sign-in', { nonce: begun.nonce, id, answer, next: form.dataset.next });
    say('Signed in.');
    location.assign(next);
  };
  const enrol = async (form) => {
    const field = one('#person', form);
    const person = field.value.trim();
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(person)) {
      field.focus();
      throw new Error('write your id first: 1 to 63 of a-z, 0-9 and \'-\'');
    }
    const begun = await ask('/enrol/begin', {});
    say('Use the device that shall hold the passkey.');
    const made = await credentials().create({
      publicKey: {
        challenge: await fresh(REGISTRATION, begun), timeout: 240000, attestation: 'none',
        rp: { id: begun.rp_id, name: 'Cauldron' },
        user: { id: crypto.getRandomValues(new Uint8Array(32)), name: person, displayName: person },
        pubKeyCredParams: [-8, -7, -257].map((alg) => ({ type: 'public-key', alg })),
        authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
      },
    });
    const { line, command } = await ask('/enrol', {
      nonce: begun.nonce, person,
      attestation_object: base64url(made.response.attestationObject),
      client_data_json: base64url(made.response.clientDataJSON),
    });
    one('#line').textContent = line;
    one('#command').textContent = command;
    one('#made').hidden = false;
    one('#made-title').focus();
    say('');
  };
  const ceremonies = { 'sign-in': signIn, enrol };

  const start = (form) => {
    const button = one('button[type=submit]', form);
    // Somebody came from another site, and the browser left the cookie out: a request of our own brings it.
    if (form.dataset.again !== undefined && !sessionStorage.getItem('again')) {
      sessionStorage.setItem('again', '1');
      location.replace(location.href);
      return;
    }
    sessionStorage.removeItem('again');
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      calm();
      button.disabled = true;
      try {
        await ceremonies[form.dataset.ceremony](form);
      } catch (error) {
        say('');
        fail(spoken(error));
      } finally {
        button.disabled = false;
      }
    });
  };

  // Votes.
  const shownLines = async (desk) => {
    const list = one('dl.lines', desk);
    const lines = JSON.parse(list.dataset.lines);
    const seen = every('dt, dd', list).map((cell) => cell.textContent);
    if (JSON.stringify(seen) !== JSON.stringify(lines.flat().map(visible))) {
      throw new Error('the lines on the page are not the lines to sign');
    }
    return hex(await hash(PRESENTATION, presentation(lines)));
  };
  const vote = async (desk, choice) => {
    const { proposal, person } = desk.dataset;
    const box = one('textarea', desk);
    const reason = box ? box.value.trim() : '';
    if (choice === 'comment' && !reason) {
      box.focus();
      throw new Error('write your comment first');
    }
    const shown = await shownLines(desk);
    const path = `/approvals/${proposal}`;
    const dwell_ms = Math.round(performance.now() - opened);
    const asked = await ask(`${path}/statement`, { choice, reason, dwell_ms, shown });
    const bytes = unbase64url(asked.statement);
    const statement = read(bytes);
    const same =
      statement.get(1) === person && hex(statement.get(4)) === proposal && hex(statement.get(6)) === shown &&
      statement.get(9) === CHOICES[choice] && statement.get(10) === reason;
    const challenge = await hash(VOTE, bytes);
    if (!same || base64url(challenge) !== asked.challenge) {
      throw Object.assign(new Error('the node shows one thing and asks for a signature over another: nothing was signed'), {
        hint: 'decide on another node, and tell the security team',
      });
    }
    const { answer } = await touch(challenge, asked.rp_id, asked.allow);
    return ask(`${path}/votes`, { challenge: asked.challenge, answer });
  };

  const follow = async (desk, show, place) => {
    for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
      await new Promise((done) => setTimeout(done, wait));
      if (document.hidden) continue;
      let now;
      try {
        now = await ask(`/approvals/${desk.dataset.proposal}/state`);
      } catch (error) {
        if (error.status === 401) return say('You were signed out. Sign in again to follow this.', place);
        continue;
      }
      show(now);
      if (now.over) return;
    }
  };

  // A single page: where it stands, live.
  const single = (way) => {
    const desk = one('section[data-proposal]');
    const steps = every('#steps li');
    const show = (now) => {
      const state = one('#state');
      if (state && state.textContent !== now.words) {
        state.textContent = now.words;
        state.dataset.state = now.state;
        say(now.words);
      }
      now.steps.forEach((step, i) => {
        if (!steps[i]) return;
        steps[i].dataset.state = step.is;
        const words = { done: ', done', now: ', now', never: ', will not come', later: ', to come' };
        one('.unseen', steps[i]).textContent = words[step.is];
      });
      const why = one('#why');
      const lines = now.why.map((line) => visible(line));
      if (why && lines.join('\n') !== every('li', why).map((li) => li.textContent).join('\n')) {
        why.replaceChildren(...lines.map((line) => {
          const li = document.createElement('li');
          const bdi = document.createElement('bdi');
          bdi.textContent = line;
          li.append(bdi);
          return li;
        }));
      }
      const seats = one('#seats');
      if (seats && now.seats.needed) {
        const counted = one('strong', seats);
        counted.textContent = `${now.seats.filled} of ${now.seats.needed}`;
      }
      // The buttons were for another state.
      if (desk && desk.dataset.state !== now.state && !desk.dataset.busy) {
        const gone = (button) => now.over || ['approve', 'abstain', 'object'].includes(button.dataset.choice);
        every('button[data-choice]', desk).forEach((button) => { button.hidden = gone(button); });
      }
      // Who said what is over with it, and is read anew; not from under somebody who writes.
      const words = desk && one('textarea', desk);
      if (now.over && !(words && words === document.activeElement && words.value)) location.reload();
    };
    return follow(way, show, one('#live'));
  };

  const decide = (desk) => {
    const outcome = one('.outcome', desk) || one('#live');
    every('button[data-choice]', desk).forEach((button) => {
      button.addEventListener('click', async () => {
        calm();
        const buttons = every('button[data-choice]', desk);
        buttons.forEach((other) => { other.disabled = true; });
        desk.dataset.busy = '1';
        say('Use your passkey now.', outcome);
        try {
          const { said, vote: worth } = await vote(desk, button.dataset.choice);
          delete desk.dataset.busy;
          say(`You have ${said}. ${(worth && worth.says) || 'It is recorded here.'}`, outcome);
          if (desk.matches('article')) decided(desk, outcome);
          else buttons.forEach((other) => { other.disabled = false; });
        } catch (error) {
          delete desk.dataset.busy;
          buttons.forEach((other) => { other.disabled = false; });
          say('', outcome);
          fail(spoken(error), desk);
          button.focus();
        }
      });
    });
  };
  // In a list the next one comes under the hands.
  const decided = (card, outcome) => {
    card.classList.add('decided');
    every('button[data-choice]', card).forEach((button) => { button.hidden = true; });
    const cards = every('article.item');
    const rest = [...cards.slice(cards.indexOf(card) + 1), ...cards.slice(0, cards.indexOf(card))];
    const next = rest.map((other) => one('button[data-choice]:not([hidden])', other)).find(Boolean);
    if (next) next.focus();
    follow(card, (now) => say(`${now.words}.`, outcome), outcome);
  };

  // Time that is left.
  const left = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const [h, m] = [Math.floor(s / 3600), Math.floor((s % 3600) / 60)];
    if (s === 0) return ' · over';
    if (h > 0) return ` · ${h} h ${m} min left`;
    return m > 0 ? ` · ${m} min ${String(s % 60).padStart(2, '0')} s left` : ` · ${s} s left`;
  };
  const count = () => every('[data-until]').forEach((place) => {
    const ms = Number(place.dataset.until) - Date.now() - ahead;
    place.textContent = left(ms);
    place.classList.toggle('soon', ms < 120000);
  });

  const followList = async (main) => {
    for (;;) {
      await new Promise((done) => setTimeout(done, 5000));
      if (document.hidden || one('article.decided')) continue;
      try {
        const { version } = await ask('/approvals/state');
        if (version !== main.dataset.version) one('#changed').hidden = false;
      } catch (error) {
        if (error.status === 401) return location.reload();
      }
    }
  };

  every('form[data-ceremony]').forEach(start);
  every('[data-digest]').forEach(decide);
  const way = one('.progress[data-proposal]');
  if (way) single(way);
  const list = one('main[data-version]');
  if (list) followList(list);
  const out = one('#sign-out');
  if (out) out.addEventListener('click', async () => {
    try {
      await ask('/sign-out', {});
    } finally {
      location.assign('/');
    }
  });
  const copy = one('#copy');
  if (copy) copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(one('#line').textContent);
    say('Copied.');
  });
  if (one('[data-until]')) {
    count();
    setInterval(count, 1000);
  }
})();
