import { call } from "/static/requests.js";

for (const [id, name] of [["about", "self"], ["demographics", "demographics"]]) {
  const form = document.getElementById(id);
  if (!form) continue;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const status = form.querySelector("[role=status]");
    const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    try {
      await call("POST", "/api/survey", { [name]: values });
      status.textContent = "Saved. Thank you.";
      if (id === "demographics") form.querySelector("button").disabled = true;
    } catch (error) {
      status.textContent = error.message;
    }
  });
}
