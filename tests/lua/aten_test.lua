local ft = require "ft"
local test = require "ft.test"

test.case("an op takes positional and named arguments", function(t)
  local a, b = ft.tensor { 1, 2 }, ft.tensor { 10, 20 }
  t.equal(ft.aten.add(a, b):tolist(), { 11, 22 })
  t.equal(ft.aten.add(a, b, { alpha = 2 }):tolist(), { 21, 42 })
  t.equal(ft.aten.add { self = a, other = b, alpha = 3 }:tolist(), { 31, 62 })
end)

test.case("the overload is chosen by what is given", function(t)
  t.equal(ft.aten.add(ft.tensor { 1, 2 }, 5):tolist(), { 6, 7 })
end)

test.case("a wrong type is refused with the schema", function(t)
  local raised = t.raises(function() ft.aten.add(ft.tensor { 1 }, "x") end, "'other': got string, want Tensor")
  t.contains(raised, "aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor")
  t.contains(raised, "aten_test.lua:16")
  t.equal(raised.kind, "shape")
end)

test.case("a wrong count is refused", function(t)
  t.raises(function() ft.aten.relu() end, "'self' is missing")
  t.raises(function() ft.aten.relu(ft.tensor { 1 }, ft.tensor { 1 }) end, "got 2 arguments, want at most 1")
end)

test.case("a named argument that the schema lacks, or that is given twice, is refused", function(t)
  t.raises(function() ft.aten.relu(ft.tensor { 1 }, { alpha = 2 }) end, "no argument 'alpha'")
  t.raises(function() ft.aten.relu(ft.tensor { 1 }, { self = ft.tensor { 1 } }) end, "'self' is given twice")
end)

test.case("a misspelt op is named with the nearest one", function(t)
  t.raises(function() ft.aten.softmxa() end, "did you mean 'softmax'?")
end)

test.case("LibTorch's message comes without its C++ backtrace", function(t)
  local raised = t.raises(function() ft.aten.mm(ft.tensor { { 1, 2 } }, ft.tensor { { 1, 2 } }) end, "mat1 and mat2 shapes")
  t.truthy(not tostring(raised):find("Exception raised from", 1, true))
end)

test.case("lists, dtypes and several results pass through", function(t)
  local z = ft.aten.zeros({ 2, 3 }, { dtype = "bf16" })
  t.equal(z:shape(), { 2, 3 })
  t.equal(z:dtype(), "bf16")
  local values, indices = ft.aten.topk(ft.tensor { 3, 1, 2 }, 2)
  t.equal(values:tolist(), { 3, 2 })
  t.equal(indices:tolist(), { 0, 2 })
  t.equal(ft.aten.cat({ ft.tensor { 1 }, ft.tensor { 2 } }):tolist(), { 1, 2 })
end)

test.case("dims are ATen's: from 0, negative from the end", function(t)
  local x = ft.tensor { { 1, 2 }, { 3, 4 } }
  t.equal(x:sum({ 0 }):tolist(), { 4, 6 })
  t.equal(x:sum({ -1 }):tolist(), { 3, 7 })
end)

test.case("tensors compute with + - * / and numbers on either side", function(t)
  local x = ft.tensor { 2, 4 }
  t.equal((x + x):tolist(), { 4, 8 })
  t.equal((1 - x):tolist(), { -1, -3 })
  t.equal((8 / x):tolist(), { 4, 2 })
  t.equal((-x * 2):tolist(), { -4, -8 })
end)

test.case("a handle says what it is, and nothing after release", function(t)
  local x = ft.tensor { { 1, 2, 3 } }
  t.equal(tostring(x), "Tensor [1, 3] fp32")
  x:release()
  x:release()
  t.equal(tostring(x), "Tensor (released)")
  t.raises(function() return x:shape() end, "used after it has been released")
end)

test.case("what is no tensor is refused by name", function(t)
  t.raises(function() ft.tensor { 1 }.shape(7) end, "got number, want Tensor")
  t.raises(function() ft.tensor { { 1 }, { 1, 2 } } end, "equal length")
end)
