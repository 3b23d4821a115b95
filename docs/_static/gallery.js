// The filter of the results: three lists choose which sections show; the address keeps the choice.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("filter");
  if (!form) return;
  const results = JSON.parse(document.getElementById("gallery-data").textContent).map((about) => ({
    ...about,
    section: document.getElementById(about.id).closest("section"),
  }));
  const chapters = new Set(results.map((result) => result.section.parentElement));
  const shown = document.getElementById("shown");
  const lists = [...form.querySelectorAll("select")];

  const apply = () => {
    const chosen = lists.filter((list) => list.value);
    let count = 0;
    for (const result of results) {
      result.section.hidden = !chosen.every((list) => result[list.name].includes(list.value));
      count += !result.section.hidden;
    }
    for (const chapter of chapters) {
      chapter.hidden = ![...chapter.querySelectorAll(":scope > section")].some((section) => !section.hidden);
    }
    shown.textContent = `${count} of ${results.length} results are shown.`;
  };

  form.addEventListener("change", () => {
    apply();
    const words = new URLSearchParams(lists.filter((list) => list.value).map((list) => [list.name, list.value]));
    history.replaceState(null, "", `${location.pathname}${words.size ? "?" + words : ""}`);
  });
  form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("change"))));
  form.addEventListener("submit", (event) => event.preventDefault());

  const words = new URLSearchParams(location.search);
  for (const list of lists) list.value = words.get(list.name) ?? "";
  for (const list of lists) if (list.selectedIndex < 0) list.value = "";
  form.hidden = false;
  apply();
});
