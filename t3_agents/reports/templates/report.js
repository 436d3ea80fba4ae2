"use strict";
(() => {
  const cards = [...document.querySelectorAll("article.task")];
  const facets = cards.map((card) => JSON.parse(card.dataset.facets));
  const words = new Map();
  const selects = [...document.querySelectorAll("[data-filter]")];
  const search = document.getElementById("search");
  const count = document.getElementById("count");

  // A picture that comes up again takes the data of its first appearance.
  for (const image of document.querySelectorAll("img[data-copy-of]")) {
    image.src = document.getElementById(image.dataset.copyOf).src;
  }

  const textOf = (card) => {
    if (!words.has(card)) words.set(card, card.textContent.toLowerCase());
    return words.get(card);
  };

  const filter = () => {
    const wanted = Object.fromEntries(selects.map((select) => [select.dataset.filter, select.value]));
    const text = search.value.trim().toLowerCase();
    let left = 0;
    cards.forEach((card, index) => {
      const { attempts, groups } = facets[index];
      const fits =
        attempts.some(
          ([run, outcome, error]) =>
            (!wanted.run || run === wanted.run) &&
            (!wanted.outcome || outcome === wanted.outcome) &&
            (!wanted.error || error === wanted.error),
        ) &&
        (!wanted.group || groups.includes(wanted.group)) &&
        (!text || textOf(card).includes(text));
      card.hidden = !fits;
      left += fits;
    });
    count.textContent = left === cards.length ? `${left} tasks` : `${left} of ${cards.length} tasks`;
  };
  for (const select of selects) select.addEventListener("change", filter);
  search.addEventListener("input", filter);

  const openAll = (open) => {
    for (const card of cards) if (!card.hidden) card.querySelector("details").open = open;
  };
  document.getElementById("open-all").addEventListener("click", () => openAll(true));
  document.getElementById("close-all").addEventListener("click", () => openAll(false));

  const move = (by) => {
    const shown = cards.filter((card) => !card.hidden);
    const at = shown.findIndex((card) => card.contains(document.activeElement));
    const next = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by];
    if (!next) return;
    const summary = next.querySelector("summary");
    summary.focus({ preventScroll: true });
    next.scrollIntoView({ block: "start" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === search) {
      search.value = "";
      filter();
      return;
    }
    if (event.target.closest("input, select, textarea")) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  });

  // A link to a task, or to a picture in it, opens it.
  const openTarget = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const card = target && target.closest("article.task");
    if (!card) return;
    card.hidden = false;
    card.querySelector("details").open = true;
    target.scrollIntoView();
    if (target === card) card.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", openTarget);
  openTarget();
  addEventListener("beforeprint", () => openAll(true));

  // Blocks that scroll can be reached and scrolled with the keyboard.
  document.addEventListener(
    "toggle",
    (event) => {
      if (!event.target.open) return;
      for (const block of event.target.querySelectorAll("pre")) {
        if (block.scrollWidth > block.clientWidth || block.scrollHeight > block.clientHeight) block.tabIndex = 0;
      }
    },
    true,
  );
})();
