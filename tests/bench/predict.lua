-- wrk posts one picture again and again and counts answers other than 200:
--   IMAGE=../shared/images/bus.jpg wrk -t1 -c32 -d10s -s tests/bench/predict.lua URL/v2/models/NAME/predict
local path = os.getenv("IMAGE") or "../shared/images/bus.jpg"
local file = assert(io.open(path, "rb"), path .. ": cannot be read; set IMAGE")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = path:match("%.png$") and "image/png" or "image/jpeg"
file:close()

local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() bad = 0 end
function response(status) if status ~= 200 then bad = bad + 1 end end
function done(summary, latency)
    local bad = 0
    for _, thread in ipairs(threads) do bad = bad + thread:get("bad") end
    io.write(string.format("answers other than 200: %d, p50 %.2f ms, p99 %.2f ms\n",
        bad, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
