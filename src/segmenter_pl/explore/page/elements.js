// Short ways to what is on the page.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

// Buttons of which one is pressed. options: [value, text]; chosen(value) is called after a click.
export function choices(group, options, value, chosen) {
  group.replaceChildren(
    ...options.map(([one, text]) => {
      const button = make("button", { type: "button", textContent: text, onclick: () => press(one) });
      button.dataset.value = one;
      return button;
    }),
  );
  function press(one) {
    mark(one);
    chosen(one);
  }
  function mark(one) {
    for (const button of group.children) button.ariaPressed = String(button.dataset.value === String(one));
  }
  mark(value);
}

// What went wrong, until it is put away; an empty text puts it away.
export function notice(text) {
  $("notice").firstChild.textContent = text;
  $("notice").hidden = !text;
}
$("notice").lastChild.addEventListener("click", () => notice(""));

let busy = 0;

// Shows that the server works until the promise ends; errors are told, and give undefined.
export async function during(promise) {
  $("work").hidden = !++busy;
  $("panes").ariaBusy = "true";
  try {
    return await promise;
  } catch (error) {
    notice(error.message);
    return undefined;
  } finally {
    $("work").hidden = !--busy;
    $("panes").ariaBusy = String(busy > 0);
  }
}
