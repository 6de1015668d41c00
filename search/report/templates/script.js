"use strict";
(() => {
  const root = document.documentElement;
  const tip = document.getElementById("tip");

  // Theme: the reader's choice, else that of the system.
  const toggle = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const name = () => { toggle.textContent = current() === "dark" ? "Light colours" : "Dark colours"; };
  try {
    const kept = localStorage.getItem("mernas-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch (error) { /* a browser without storage forgets the choice */ }
  toggle.hidden = false;
  name();
  dark.addEventListener("change", name);
  toggle.addEventListener("click", () => {
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    try { localStorage.setItem("mernas-theme", root.dataset.theme); } catch (error) { /* as above */ }
    name();
  });

  // Tooltips of the marks: what they say is also their accessible name, so the box itself is for eyes only.
  let leaving = 0;
  let shown = null;
  const place = () => {
    const box = shown.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - own.width / 2, 8), innerWidth - own.width - 8);
    const above = box.top - own.height - 10;
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${above > 8 ? above : Math.min(box.bottom + 10, innerHeight - own.height - 8)}px`;
  };
  const show = (text, element) => {
    clearTimeout(leaving);
    shown = element;
    tip.textContent = text;
    tip.hidden = false;
    place();
  };
  const hide = () => { tip.hidden = true; };
  const later = () => { clearTimeout(leaving); leaving = setTimeout(hide, 160); };
  const heart = (mark) => mark.querySelector(".halo") || mark;
  for (const mark of document.querySelectorAll(".mark")) {
    const here = () => show(mark.dataset.tip, heart(mark));
    mark.addEventListener("pointerenter", here);
    mark.addEventListener("focus", here);
    mark.addEventListener("pointerleave", later);
    mark.addEventListener("blur", hide);
  }
  tip.addEventListener("pointerenter", () => clearTimeout(leaving));
  tip.addEventListener("pointerleave", hide);
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (!tip.hidden) place(); }, { passive: true, capture: true });

  // The inner trials are too many to be elements of their own: the nearest one is looked up, and arrow keys step.
  for (const chart of document.querySelectorAll(".front-chart[data-low-x]")) {
    const data = document.getElementById("trials");
    const layer = chart.querySelector(".trials");
    if (!data || !layer || !layer.childElementCount) continue;
    const scale = Object.fromEntries(Object.entries(chart.dataset).map(([key, value]) => [key, Number(value)]));
    let trials = null;
    const load = () => {
      if (trials) return trials;
      const { params, inner, pipeline, words } = JSON.parse(data.textContent);
      trials = params.map((size, i) => ({
        size, inner: inner[i], words: words[pipeline[i]],
        x: scale.left + (Math.log10(Math.max(size, 1)) - scale.lowX) / (scale.highX - scale.lowX) * (scale.right - scale.left),
        y: scale.bottom - (inner[i] - scale.lowY) / (scale.highY - scale.lowY) * (scale.bottom - scale.top),
      }));
      trials.sort((a, b) => a.size - b.size || a.inner - b.inner);
      return trials;
    };
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    cursor.setAttribute("r", "7");
    cursor.setAttribute("class", "cursor");
    chart.append(cursor);
    const text = (one) => `Inner trial of the final study\ninner UF1 ${one.inner.toFixed(3).replace(/^0/, "")}, `
      + `a selection score\n${one.size.toLocaleString("en")} parameters\n${one.words}`;
    const point = (one) => {
      cursor.setAttribute("cx", one.x);
      cursor.setAttribute("cy", one.y);
      cursor.classList.add("shown");
      show(text(one), cursor);
    };
    const away = () => { cursor.classList.remove("shown"); later(); };
    chart.addEventListener("pointermove", (event) => {
      if (event.target.closest(".mark")) { cursor.classList.remove("shown"); return; }
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      let best = null;
      let least = 144;
      for (const one of load()) {
        const far = (one.x - at.x) ** 2 + (one.y - at.y) ** 2;
        if (far < least) { least = far; best = one; }
      }
      if (best) point(best); else if (cursor.classList.contains("shown")) away();
    });
    chart.addEventListener("pointerleave", away);
    let number = 0;
    const tell = (step) => {
      const all = load();
      number = Math.min(Math.max(step, 0), all.length - 1);
      layer.setAttribute("aria-valuenow", number + 1);
      layer.setAttribute("aria-valuetext", text(all[number]).replaceAll("\n", ". "));
      point(all[number]);
    };
    layer.setAttribute("tabindex", "0");
    layer.setAttribute("role", "slider");
    layer.setAttribute("aria-label", "Inner trials by size; step with the arrow keys");
    layer.setAttribute("aria-valuemin", "1");
    layer.setAttribute("aria-valuemax", JSON.parse(data.textContent).params.length);
    layer.setAttribute("aria-valuenow", "1");
    layer.addEventListener("focus", () => tell(number));
    layer.addEventListener("blur", () => { cursor.classList.remove("shown"); hide(); });
    layer.addEventListener("keydown", (event) => {
      const last = load().length - 1;
      const to = { ArrowRight: number + 1, ArrowUp: number + 1, ArrowLeft: number - 1, ArrowDown: number - 1,
        PageUp: number + 10, PageDown: number - 10, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      tell(to);
    });
  }

  // Copying YAML.
  const said = document.getElementById("said");
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.parentElement.querySelector("pre").textContent;
      let done = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch (error) {
        const range = document.createRange();
        range.selectNodeContents(button.parentElement.querySelector("pre"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Selected";
      said.textContent = done ? "YAML copied" : "YAML selected; copy it with the keyboard";
      setTimeout(() => { button.textContent = "Copy YAML"; }, 2000);
    });
  }

  // Links lead into closed cards, and paper has no closed cards.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  open();
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.card:not([open])")];
    for (const card of closed) card.open = true;
  });
  addEventListener("afterprint", () => { for (const card of closed) card.open = false; });
})();
