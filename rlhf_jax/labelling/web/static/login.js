// An invitation is /login#TOKEN: what follows # never leaves the browser by itself, so
// the token does not lie in a log.
function enter() {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", "/login");
  const field = document.getElementById("token");
  field.value = decodeURIComponent(token);
  field.form.submit();
}
addEventListener("hashchange", enter);
enter();
