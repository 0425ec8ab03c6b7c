local test = require "ft.test"
local chatml = require "ft.chat.chatml"
local llama3 = require "ft.chat.llama3"

local talk = {
  { role = "user", content = "Hi" }, { role = "assistant", content = " Hello " }, { role = "user", content = "Bye" },
  { role = "assistant", content = "Bye!" },
}

local function texts(segments, wanted)
  local out = ""
  for _, segment in ipairs(segments) do
    if wanted == nil or segment.train == wanted then out = out .. segment.text end
  end
  return out
end

test.case("chatml writes turns as Qwen does", function(t)
  t.equal(texts(chatml.segments(talk, {})), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n Hello <|im_end|>\n"
    .. "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nBye!<|im_end|>\n")
end)

test.case("chatml learns the assistant's content and the end of its turn alone", function(t)
  t.equal(texts(chatml.segments(talk, {}), true), " Hello <|im_end|>Bye!<|im_end|>")
end)

test.case("chatml learns every piece without masks", function(t)
  t.equal(texts(chatml.segments(talk, { mask_prompts = false }), false), "")
end)

test.case("a system message is added only where there is none", function(t)
  t.contains(texts(chatml.segments(talk, { system = "Be brief." })), "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")
  local own = { { role = "system", content = "Mine." }, talk[1] }
  t.truthy(not texts(chatml.segments(own, { system = "Be brief." })):find("brief", 1, true))
end)

test.case("a prompt ends where the assistant begins", function(t)
  t.equal(chatml.prompt({ talk[1] }), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
end)

test.case("llama3 writes headers, trims, and begins once", function(t)
  t.equal(texts(llama3.segments({ talk[1], talk[2] }, {})),
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    .. "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>")
  t.equal(texts(llama3.segments(talk, {}), true), "Hello<|eot_id|>Bye!<|eot_id|>")
end)
