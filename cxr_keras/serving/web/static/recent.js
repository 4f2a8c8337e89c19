// Keeps the last few things that were loaded, such as images and heat maps.

export class Recent {
  constructor(size) {
    this.size = size;
    this.kept = new Map();
  }

  /** What is kept under `key`, or what `load` gives; a failure is not kept. */
  async get(key, load) {
    const found = this.kept.get(key) ?? load();
    this.kept.delete(key);
    this.kept.set(key, found);
    if (this.kept.size > this.size) this.kept.delete(this.kept.keys().next().value);
    try {
      return await found;
    } catch (error) {
      if (this.kept.get(key) === found) this.kept.delete(key);
      throw error;
    }
  }

  forget(key) {
    this.kept.delete(key);
  }
}
