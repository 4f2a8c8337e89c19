// Knows the model's runs and which of them are chosen.

export const state = {
  model: null,
  a: null, // the run whose answers are shown
  b: null, // the run to compare with, or null
};

export const runNamed = (name) => state.model.runs.find((run) => run.name === name) ?? null;
