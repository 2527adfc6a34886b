// Runs trusted tests in a box of their own; the candidate's function is a call that the host relays to another box.
{
  const vm = require("vm");
  const channel = new Channel();
  channel.say({ ready: "node " + process.version });
  const [context, tests, name] = channel.hear();
  let number = 0;

  const putBack = (mine, theirs) => {
    if (Array.isArray(mine) && Array.isArray(theirs)) {
      mine.length = 0;
      for (const item of theirs) mine.push(item);
    } else if (mine instanceof Map && theirs instanceof Map) {
      mine.clear();
      for (const [key, item] of theirs) mine.set(key, item);
    } else if (mine instanceof Set && theirs instanceof Set) {
      mine.clear();
      for (const item of theirs) mine.add(item);
    } else if (mine && theirs && Object.getPrototypeOf(mine) === Object.prototype && !(theirs instanceof Opaque)) {
      for (const key of Object.keys(mine)) delete mine[key];
      Object.defineProperties(mine, Object.getOwnPropertyDescriptors(theirs)); // "__proto__" too is only a key
    }
  };

  const errorOf = (told) => {
    const kinds = [RangeError, ReferenceError, SyntaxError, TypeError, URIError, EvalError];
    const error = new (kinds.find((kind) => kind.name === told.names[0]) || Error)(told.words);
    error.name = told.names[0];
    return error;
  };

  const candidate = (...args) => {
    channel.say({ call: { id: number++, function: name, args: pack(args), kwargs: { d: [] }, mutations: true } });
    const reply = channel.hear();
    if (reply.args !== undefined) unpack(reply.args).forEach((theirs, index) => putBack(args[index], theirs));
    if (reply.raised !== undefined) throw errorOf(reply.raised);
    return unpack(reply.value);
  };

  const define = (key, value) => Object.defineProperty(globalThis, key, { value, writable: true, configurable: true });
  let script;
  try {
    define("require", require);
    vm.runInThisContext(context, { filename: "context.js" });
    script = new vm.Script(tests, { filename: "tests.js" });
  } catch (error) {
    channel.say({ broken: raised(error).words });
    process.reallyExit(0);
  }
  define("candidate", candidate);
  define(name, candidate);
  let passed = true, why = "";
  try {
    script.runInThisContext();
  } catch (error) {
    passed = false;
    why = raised(error).words;
  }
  // A test that fails after this, in a promise or a timer, is a failure too: the report waits for the last of them.
  process.on("uncaughtException", (error) => { passed = false; why = why || raised(error).words; });
  process.on("exit", (code) => channel.say({ passed: passed && code === 0, why }));
}
