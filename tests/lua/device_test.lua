local ft = require "ft"
local native = require "ft.native"
local test = require "ft.test"

require("ft.options").filled = true -- this test's own flags are no recipe's

local function parallel_of(parallel)
  return ft.plan({
    model = ft.scratch { ft.config { model_type = "llama", hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1,
      num_attention_heads = 2, vocab_size = 64, max_position_embeddings = 64 } },
    data = { train = ft.tokenized { "rows.jsonl", seq_len = 32 } },
    parallel = parallel,
    optimizer = ft.adamw { lr = 1e-3 },
  }).plan.parallel
end

--- Calls `body` where the machine has as many GPUs for any device but the CPU.
local function with_gpus(count, body)
  local real = native.gpus
  native.gpus = function(device) return device == "cpu" and 0 or count end
  local ok, err = pcall(body)
  native.gpus = real
  if not ok then error(err, 0) end
end

test.case("without GPUs there are as many ranks as the profile says", function(t)
  with_gpus(0, function()
    t.equal(parallel_of("fsdp2").nproc, 2)
    t.equal(parallel_of("single").nproc, 1)
    t.equal(parallel_of(ft.fsdp2 {}).nproc, 1)
    t.equal(parallel_of(ft.fsdp2 { nproc = 3 }).nproc, 3)
    t.equal(parallel_of("fsdp2").device, "auto")
  end)
end)

test.case("with GPUs there is one rank a GPU, but for a plan of one rank or on the CPU", function(t)
  with_gpus(4, function()
    local fsdp2 = parallel_of("fsdp2")
    t.equal(fsdp2.nproc, 4)
    t.equal(fsdp2.mesh.shard, 4)
    t.equal(parallel_of(ft.fsdp2 {}).nproc, 4)
    t.equal(parallel_of(ft.fsdp2 { device = "cuda" }).nproc, 4)
    t.equal(parallel_of(ft.fsdp2 { device = "cpu", nproc = 2 }).nproc, 2)
    t.equal(parallel_of("single").nproc, 1)
  end)
  with_gpus(1, function() t.equal(parallel_of("fsdp2").nproc, 1) end)
end)

test.case("a device that there is not is refused by its key", function(t)
  t.raises(function() parallel_of(ft.fsdp2 { device = "gpu" }) end, "device")
end)
