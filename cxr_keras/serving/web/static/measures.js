// Computes what a threshold does, and the curves, from probabilities and truth; knows no page.

/** The images of known truth, most probable first, with running counts of true and false. */
export function ranked(probabilities, truth) {
  const known = probabilities.map((_, i) => i).filter((i) => truth[i] === 0 || truth[i] === 1);
  known.sort((a, b) => probabilities[b] - probabilities[a]);
  const scores = Float64Array.from(known, (i) => probabilities[i]);
  const hits = new Uint32Array(known.length + 1);
  known.forEach((i, place) => { hits[place + 1] = hits[place] + truth[i]; });
  return { scores, hits, positives: hits[known.length], negatives: known.length - hits[known.length] };
}

/** How many of the scores, which fall, are at least `threshold`. */
function reached(scores, threshold) {
  let low = 0;
  let high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] >= threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

const ratio = (part, whole) => (whole ? part / whole : NaN);

/** Counts and measures where an image is predicted from `threshold` on; NaN where undefined. */
export function confusion(order, threshold) {
  const predicted = reached(order.scores, threshold);
  const tp = order.hits[predicted];
  const fp = predicted - tp;
  const fn = order.positives - tp;
  const tn = order.negatives - fp;
  return {
    tp, fp, fn, tn,
    precision: ratio(tp, tp + fp),
    recall: ratio(tp, tp + fn),
    specificity: ratio(tn, tn + fp),
    f1: ratio(2 * tp, 2 * tp + fp + fn),
    accuracy: ratio(tp + tn, tp + fp + fn + tn),
  };
}

/** The confusion after each group of equal scores, from none predicted to all. */
function steps(order) {
  const { scores, hits } = order;
  const points = [{ tp: 0, fp: 0 }];
  for (let n = 1; n <= scores.length; n += 1) {
    if (n === scores.length || scores[n] !== scores[n - 1]) points.push({ tp: hits[n], fp: n - hits[n] });
  }
  return points;
}

/** [false positive rate, recall] of every threshold, from (0, 0) to (1, 1). */
export const roc = (order) =>
  steps(order).map(({ tp, fp }) => [ratio(fp, order.negatives), ratio(tp, order.positives)]);

/** [recall, precision] of every threshold; empty where no image has the finding. */
export const precisionRecall = (order) =>
  steps(order).slice(1).map(({ tp, fp }) => [ratio(tp, order.positives), tp / (tp + fp)]);

/** Area under the ROC curve by trapezes: ties count half. NaN where one class is missing. */
export function auroc(order) {
  if (!order.positives || !order.negatives) return NaN;
  const points = roc(order);
  return points.slice(1).reduce(
    (sum, [x, y], i) => sum + ((x - points[i][0]) * (y + points[i][1])) / 2, 0);
}

/** Average precision: the precision of each step, weighted by the recall it adds. */
export function averagePrecision(order) {
  if (!order.positives) return NaN;
  let before = 0;
  return precisionRecall(order).reduce((sum, [recall, precision]) => {
    const added = (recall - before) * precision;
    before = recall;
    return sum + added;
  }, 0);
}

/** Of each of `bins` equal bins that holds an image: mean probability, observed rate, images. */
export function reliability(order, bins = 10) {
  const sums = Array.from({ length: bins }, () => ({ images: 0, hits: 0, sum: 0 }));
  order.scores.forEach((score, i) => {
    const bin = sums[Math.min(bins - 1, Math.floor(score * bins))];
    bin.images += 1;
    bin.sum += score;
    bin.hits += order.hits[i + 1] - order.hits[i];
  });
  return sums.filter((bin) => bin.images).map(({ images, hits, sum }) =>
    ({ images, probability: sum / images, rate: hits / images }));
}

/** All that is drawn of a ranking and does not change with the threshold. */
export const curves = (order) => ({
  order, roc: roc(order), precisionRecall: precisionRecall(order), reliability: reliability(order),
});

/** The outcome of one image in words. */
export function outcome(probability, truth, threshold) {
  if (truth !== 0 && truth !== 1) return "unknown";
  if (probability >= threshold) return truth ? "found" : "false alarm";
  return truth ? "missed" : "right negative";
}
