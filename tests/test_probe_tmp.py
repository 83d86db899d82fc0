import json
from tests.conftest import *
import httpx2
def test_p(customer, stack):
    for c in [b'{"model": "sim", "prompt": "Hi", "seed": 1e999}', b'{"endpoint":"/v1/chat/completions","body":{"model": "sim", "messages":[{"role":"user","content":"x"}], "x": 1e999}}']:
        r = customer.http.post("/v1/jobs", content=c); print(r.status_code, r.text[:300])
    v='x'
    for _ in range(300): v={"a":v}
    r = customer.http.post("/v1/jobs", content=json.dumps({"model":"sim","prompt":"x","response_format":v})); print(r.status_code, r.text[:300])
    import collections
    seen=collections.OrderedDict()
    for d in list(range(850,1010,1)):
        r = customer.http.post("/v1/jobs", content='{"endpoint":"/v1/chat/completions","body":{"model":"sim-400","messages":[{}],"x":'+"["*d+"]"*d+"}}")
        seen.setdefault(r.status_code, []).append(d)
    print({k:(v[0],v[-1]) for k,v in seen.items()})
    seen=collections.OrderedDict()
    for d in list(range(100,1010,4)):
        r = customer.http.post("/v1/jobs", content='{"model":"sim-400","prompt":"x","response_format":'+'{"a":'*d+"1"+"}"*d+"}")
        seen.setdefault(r.status_code, []).append(d)
    print({k:(v[0],v[-1]) for k,v in seen.items()})
    for k in ("", "\ud800", "stop", "metadata"):
        r = customer.http.post("/v1/jobs", content=json.dumps({"model":"sim","prompt":"x", k: 5})); print(repr(k), r.status_code, r.text[:300])
    r = customer.http.post("/v1/jobs", content=json.dumps({"model":"sim","prompt":"x", "stop": ["a",5]})); print(repr(k), r.status_code, r.text[:300])
    c = json.dumps({"model": "sim", "prompt": "x" * (4<<20)}).encode()
    for i in range(4):
        try:
            r = customer.http.post("/v1/jobs", content=c); print(r.status_code, r.text[:300], r.headers)
        except Exception as e: print("FULL", repr(e))
    def chunks():
        for s in range(0, len(c), 65536): yield c[s:s+65536]
    for i in range(4):
        try:
            r = customer.http.post("/v1/jobs", content=chunks()); print(r.status_code, r.text[:300])
        except Exception as e: print("CHUNK", repr(e))
    print(open(stack.home.path/"logs"/"web.log").read()[-5000:])
