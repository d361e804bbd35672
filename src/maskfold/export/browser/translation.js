// Texts in the chosen language. An element names its text by data-text and the values in it by data-values, or the text
// of its aria-label by data-label, so that changing the language only fills all elements again.

import texts from "texts";

let language = "en";

function format(key, values) {
  return texts[language][key].replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    // A value that starts with @ is the key of a text.
    return typeof value === "string" && value.startsWith("@") ? texts[language][value.slice(1)] : value;
  });
}

function fill(element) {
  const values = JSON.parse(element.dataset.values ?? "{}");
  if (element.dataset.text) element.textContent = format(element.dataset.text, values);
  if (element.dataset.label) element.setAttribute("aria-label", format(element.dataset.label, values));
}

// Show a text in an element; without a key, empty the element.
export function show(element, key, values = {}) {
  element.dataset.values = JSON.stringify(values);
  if (key) {
    element.dataset.text = key;
    fill(element);
  } else {
    delete element.dataset.text;
    element.textContent = "";
  }
  return element;
}

export function label(element, key, values = {}) {
  element.dataset.values = JSON.stringify(values);
  element.dataset.label = key;
  fill(element);
  return element;
}

export function setLanguage(name) {
  language = name;
  document.documentElement.lang = name;
  for (const element of document.querySelectorAll("[data-text], [data-label]")) fill(element);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === name));
  }
}

// The first language of the browser that the page has; English otherwise.
export function browserLanguage() {
  const codes = (navigator.languages ?? [navigator.language]).map((code) => code.slice(0, 2).toLowerCase());
  return codes.find((code) => code in texts) ?? "en";
}

// Create an element with a class, a text and children.
export function element(tag, { css = "", text = "", values = {} } = {}, ...children) {
  const created = document.createElement(tag);
  if (css) created.className = css;
  if (text) show(created, text, values);
  created.append(...children);
  return created;
}
