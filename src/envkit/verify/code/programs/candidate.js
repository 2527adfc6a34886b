// Runs in the candidate's box: loads its program and calls its functions. Whatever is said here may be forged.
{
  const vm = require("vm");
  const channel = new Channel();
  channel.say({ ready: "node " + process.version });
  const source = channel.hear();
  globalThis.require = require;
  globalThis.module = { exports: {} };
  globalThis.exports = globalThis.module.exports;
  let loaded = true;
  try {
    vm.runInThisContext(source, { filename: "solution.js" });
  } catch (error) {
    loaded = false;
    channel.say({ unloadable: raised(error) });
  }
  if (loaded) {
    channel.say({ loaded: true });
    for (;;) {
      const request = channel.hear();
      const args = unpack(request.args);
      const before = JSON.stringify(pack(args));
      const reply = { id: request.id };
      try {
        const name = request.function;
        const found = vm.runInThisContext("typeof " + name + " === 'undefined' ? undefined : " + name);
        reply.value = pack((found === undefined ? globalThis.module.exports[name] : found)(...args));
      } catch (error) {
        reply.raised = raised(error);
      }
      const after = pack(args);
      if (JSON.stringify(after) !== before) reply.args = after;
      channel.say(reply);
    }
  }
}
