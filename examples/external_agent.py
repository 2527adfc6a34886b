"""An agent program that brings its own loop, in a sandbox that reaches nothing but the model: its calls are the turns.

envkit eval ./external_agent.py --endpoint http://localhost:8000/v1
"""

from collections.abc import Sequence

from envkit import Environment, Message, Rollout, Task
from envkit.sandbox import ExecLimits, SandboxSpec

AGENT = """
import json, os, subprocess, sys, urllib.request
url, key = os.environ["OPENAI_BASE_URL"] + "/chat/completions", os.environ["OPENAI_API_KEY"]
said = [{"role": "user", "content": sys.argv[1] + " Answer with one shell command at a time, and DONE in the end."}]
while said[-1]["content"] != "DONE":
    body = json.dumps({"model": os.environ["OPENAI_MODEL"], "messages": said}).encode()
    request = urllib.request.Request(url, body, {"Authorization": "Bearer " + key})
    said.append(json.load(urllib.request.urlopen(request))["choices"][0]["message"])
    if said[-1]["content"] != "DONE":
        ran = subprocess.run(["sh", "-c", said[-1]["content"]], capture_output=True, text=True)
        said.append({"role": "user", "content": ran.stdout + ran.stderr})
"""


class AgentEnv(Environment[Task]):
    async def run(self, rollout: Rollout[Task]) -> None:
        async def keep_the_answer() -> None:
            rollout.info["answer"] = (await rollout.sandbox.exec(["cat", "answer"])).stdout.decode(errors="replace")

        rollout.at_end(keep_the_answer)
        async with rollout.serve() as gateway:
            await rollout.sandbox.exec(["python3", "-c", AGENT, rollout.task.prompt], env=gateway.env())

    def oracle(self, task: Task, messages: Sequence[Message]) -> str:
        return "echo 5050 > answer" if len(messages) == 1 else "DONE"


def wrote_it(rollout: Rollout[Task]) -> float:
    return float(rollout.info["answer"].strip() == rollout.task.answer)


def environment() -> AgentEnv:
    tasks = [Task(id="sum", prompt="Write the sum of 1 to 100 into the file `answer`.", answer="5050")]
    spec = SandboxSpec(network="loopback", limits=ExecLimits(wall=600, cpu=600))
    return AgentEnv(tasks, rewards=[wrote_it], sandbox=spec)
