// Holds the chosen files and asks the server about them, a few at a time.

import { predict } from "/api.js";
import { count } from "/dom.js";
import { state } from "/state.js";

const AT_ONCE = 4;
const FORM_BYTES = 4096; // that a request has around its file

/** Fires "change" with `detail` the file that was answered. */
class Uploads extends EventTarget {
  constructor() {
    super();
    this.entries = [];
    this.number = 0;
    this.active = 0;
  }

  add(files) {
    const added = files.map((file) => ({
      file, name: file.name, key: `file ${(this.number += 1)}`, asked: new Map(), answers: new Map(),
    }));
    this.entries.push(...added);
    this.pump();
    return added;
  }

  clear() {
    this.entries = [];
    this.started = null;
  }

  /** The answer of `run` about one file; asked once, and a failure is an answer with `error`. */
  ask(entry, run) {
    if (!entry.asked.has(run.name)) entry.asked.set(run.name, this.answer(entry, run));
    return entry.asked.get(run.name);
  }

  async answer(entry, run) {
    let answer;
    try {
      const limit = state.model.max_bytes - FORM_BYTES;
      answer = entry.file.size > limit
        ? { error: `The file is larger than ${Math.floor(limit / 2 ** 20)} MB.` }
        : await predict(run.name, entry.file);
    } catch (error) {
      answer = { error: error.message };
    }
    entry.answers.set(run.name, answer);
    this.dispatchEvent(new CustomEvent("change", { detail: entry }));
    return answer;
  }

  /** Keep a few requests going until the chosen run has answered every file. */
  pump() {
    const run = state.a;
    while (this.active < AT_ONCE) {
      const entry = this.entries.find(({ asked }) => !asked.has(run.name));
      if (!entry) return;
      this.started ??= { time: performance.now(), done: this.done() };
      this.active += 1;
      this.ask(entry, run).then(() => {
        this.active -= 1;
        this.pump();
      });
    }
  }

  done() {
    return this.entries.filter(({ answers }) => answers.has(state.a.name)).length;
  }

  /** How far it is, in words. */
  progress() {
    const done = this.done();
    const all = this.entries.length;
    if (!all) return "";
    if (done < all) {
      const now = done - (this.started?.done ?? 0);
      const seconds = now > 0 ? ((performance.now() - this.started.time) / 1000 / now) * (all - done) : 0;
      return `${count(done)} of ${count(all)}${now > 0 ? `, about ${timeWords(seconds)} left` : ""}`;
    }
    this.started = null;
    const failed = this.entries.filter(({ answers }) => answers.get(state.a.name).error).length;
    return `${count(all)} of ${count(all)} done${failed ? `, ${count(failed)} with an error` : ""}`;
  }
}

const timeWords = (seconds) =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;

export const uploads = new Uploads();
