"use strict";
// Colours in the charts are names of CSS variables, so that they follow the reader's scheme.
const resolve = (key, value) =>
  typeof value === "string" && value.startsWith("--")
    ? getComputedStyle(document.documentElement).getPropertyValue(value).trim()
    : value;
const touch = matchMedia("(pointer: coarse)").matches;
const options = { responsive: true, displayModeBar: false };

function draw() {
  for (const script of document.querySelectorAll("script[data-chart]")) {
    const figure = JSON.parse(script.textContent, resolve);
    // a finger that drags over a chart means to scroll the page
    figure.layout.dragmode = touch ? false : "zoom";
    Plotly.react(script.dataset.chart, figure.data, figure.layout, options);
  }
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
// a link to a place inside a closed part opens it
addEventListener("hashchange", () => document.querySelector(":target")?.closest("details")?.setAttribute("open", ""));
