// Start the page: load the model, test it, and connect the controls.

import settings from "settings";
import { Classifier, nextTask, sha256 } from "classifier";
import { Camera } from "camera";
import { fillBrokenCard, fillCard, waitingCard } from "results";
import { browserLanguage, element, label, setLanguage, show } from "translation";

const byId = (id) => document.getElementById(id);
const [state, progress, files, results, queueState, clear] = ["state", "progress", "files", "results", "queue", "clear"].map(byId);
const classifier = new Classifier(settings);
const queue = [];
let isWorking = false, numDone = 0;

function aboutModel() {
  const [height, width] = settings.image_size, { macro_f1: score, macro_f1_ci95: interval } = settings.scores;
  const lines = [element("p", { text: "model_name", values: { name: settings.name, height, width } })];
  if (settings.num_folds > 1) lines.push(element("p", { text: "model_folds", values: { n: settings.num_folds } }));
  if (score !== undefined && interval) {
    const [shown, low, high] = [score, ...interval].map((value) => value.toFixed(3));
    lines.push(element("p", { text: "model_score", values: { score: shown, low, high } }));
  }
  if (settings.is_decode_reduced) lines.push(element("p", { text: "model_reduced" }));
  byId("model").append(...lines);
}

async function classifyInto(card, file) {
  try {
    const result = await classifier.classifyFile(file);
    fillCard(card, file.name, result, settings);
    // For tests, and for people who compare with another program.
    card.dataset.probs = JSON.stringify(result.probs);
    if (globalThis.crypto?.subtle) card.dataset.inputSha256 = await sha256(result.input);
  } catch (error) {
    // createImageBitmap throws InvalidStateError for a file that it cannot decode.
    const isBroken = ["InvalidStateError", "EncodingError"].includes(error.name);
    fillBrokenCard(card, isBroken ? "broken" : "no_memory", { reason: error.message || error.name });
  }
  card.dataset.done = "true";
}

async function work() {
  if (isWorking) return;
  isWorking = true;
  files.disabled = false;
  while (queue.length) {
    const { card, file } = queue.shift();
    show(queueState, "working", { n: numDone + 1, total: numDone + 1 + queue.length });
    await nextTask();
    if (card.isConnected) await classifyInto(card, file);
    numDone++;
  }
  isWorking = false;
  if (results.childElementCount) show(queueState, numDone === 1 ? "done_one" : "done", { n: numDone });
  numDone = 0;
}

// Show cards for the files above the older ones, and classify them one after another.
function addFiles(list) {
  const jobs = Array.from(list, (file) => ({ file, card: waitingCard(file.name) }));
  results.prepend(...jobs.map(({ card }) => card));
  queue.push(...jobs);
  clear.hidden = results.childElementCount === 0;
  work();
}

function connectPhotos() {
  files.addEventListener("change", () => {
    addFiles(files.files);
    // So that the same file can be chosen again.
    files.value = "";
  });
  const drop = byId("drop"), isReady = () => !files.disabled;
  for (const type of ["dragover", "dragleave", "drop"]) {
    // On the whole page: otherwise the browser leaves the page to open a file that was dropped beside the target.
    document.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", type === "dragover" && isReady());
      if (type === "drop" && isReady()) addFiles(event.dataTransfer.files);
    });
  }
  clear.addEventListener("click", () => {
    queue.length = 0;
    results.replaceChildren();
    clear.hidden = true;
    show(queueState, "");
    files.focus();
  });
  files.disabled = false;
}

function showExamples() {
  settings.examples.forEach((base64, i) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const image = element("img"), button = label(element("button", {}, image), "example", { n: i + 1 });
    image.src = `data:image/jpeg;base64,${base64}`;
    image.alt = "";
    button.type = "button";
    button.disabled = true;
    button.addEventListener("click", () => addFiles([new File([bytes], `example-${i + 1}.jpg`, { type: "image/jpeg" })]));
    byId("examples").append(button);
  });
}

function connectCamera() {
  const button = byId("camera"), rate = element("p", { css: "hint" });
  byId("live").append(rate);
  const elements = { button, rate, state: byId("camera-state"), video: byId("video"), overlay: byId("overlay") };
  const camera = new Camera(classifier, { ...elements, live: byId("live"), result: byId("camera-result") });
  button.addEventListener("click", () => (camera.isOn ? camera.stop() : camera.start()));
  button.disabled = false;
}

async function start() {
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => setLanguage(button.dataset.language));
  }
  setLanguage(browserLanguage());
  aboutModel();
  showExamples();
  try {
    await classifier.load((share) => {
      progress.value = share;
      show(state, "loading", { percent: Math.round(100 * share) });
    });
    progress.hidden = true;
    show(state, "testing");
    await nextTask();
    const passed = await classifier.selfTest();
    show(state, passed ? "test_passed" : "test_failed");
    state.classList.add(passed ? "passed" : "failed");
  } catch (error) {
    progress.hidden = true;
    show(state, "load_failed", { reason: error.message });
    state.classList.add("failed");
    document.body.dataset.ready = "failed";
    return;
  }
  connectPhotos();
  connectCamera();
  for (const button of document.querySelectorAll("#examples button")) button.disabled = false;
  document.body.dataset.ready = "true";
}

start();
