#include "engine/formats/pickle.h"

#include "tests/thrown.h"

namespace ft {
namespace {

using Kind = PickleNode::Kind;

Pickle read(const std::string& bytes, const PickleLimits& limits = {}) {
  return Pickle({bytes.begin(), bytes.end()}, "test.pkl", limits);
}

std::string little(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

std::string text(const std::string& value) { return "X" + little(value.size(), 4) + value; }
std::string global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }

const std::string kBegin("\x80\x02", 2);

TEST(Pickle, ReadsPlainData) {
  // {"a": [1, -2, 2**40, 0.5], "b": (None, True, False), "a": "é"} with the second "a" set later
  const std::string numbers = "](K\x01J" + little(0xfffffffe, 4) + "\x8a\x06" + little(uint64_t{1} << 40, 6) + "G" +
                              std::string("\x3f\xe0\0\0\0\0\0\0", 8) + "e";
  const Pickle pickle =
      read(kBegin + "}(" + text("a") + numbers + text("b") + "(N\x88\x89tu" + text("a") + text("\xc3\xa9") + "s.after");
  const PickleNode& root = pickle.root();
  ASSERT_TRUE(root.is(Kind::dict));
  ASSERT_EQ(root.items.size(), 6u);
  EXPECT_EQ(root.find("a")->text, "\xc3\xa9");
  const PickleNode& list = *root.items[1];
  ASSERT_EQ(list.items.size(), 4u);
  EXPECT_EQ(list.items[0]->integer, 1);
  EXPECT_EQ(list.items[1]->integer, -2);
  EXPECT_EQ(list.items[2]->integer, int64_t{1} << 40);
  EXPECT_EQ(list.items[3]->number, 0.5);
  const PickleNode* tuple = root.find("b");
  ASSERT_TRUE(tuple && tuple->is(Kind::tuple) && tuple->items.size() == 3);
  EXPECT_TRUE(tuple->items[0]->is(Kind::none));
  EXPECT_TRUE(tuple->items[1]->truth);
  EXPECT_FALSE(tuple->items[2]->truth);
  EXPECT_EQ(root.find("c"), nullptr);
  EXPECT_EQ(pickle.size() + 5, (kBegin + "}(" + text("a") + numbers + text("b") + "(N\x88\x89tu" + text("a") +
                                text("\xc3\xa9") + "s.after")
                                   .size());
}

TEST(Pickle, LeavesCallsAsNodes) {
  const Pickle pickle =
      read(kBegin + global("torch._utils", "_rebuild_tensor_v2") + "(K\x03K\x04tR}" + text("x") + "K\x05sb.");
  EXPECT_TRUE(pickle.root().is_call("torch._utils._rebuild_tensor_v2"));
  ASSERT_EQ(pickle.root().items.size(), 2u);
  EXPECT_EQ(pickle.root().items[1]->integer, 4);
  ASSERT_NE(pickle.root().state, nullptr);
  EXPECT_EQ(pickle.root().state->find("x")->integer, 5);
}

TEST(Pickle, MakesADictOfAnOrderedDict) {
  const Pickle pickle =
      read(kBegin + global("collections", "OrderedDict") + ")R(" + text("k") + "K\x07u}" + text("_metadata") + "Nsb.");
  ASSERT_TRUE(pickle.root().is(Kind::dict));
  EXPECT_EQ(pickle.root().find("k")->integer, 7);
}

TEST(Pickle, NamesTheGlobalThatItRefuses) {
  const std::string attack = global("os", "system") + "(" + text("touch /tmp/owned") + "tR.";
  EXPECT_ERROR(read(kBegin + attack), format, "asks for os.system");
  EXPECT_ERROR(read(kBegin + text("posix") + text("system") + "\x93."), format, "asks for posix.system");
  EXPECT_ERROR(read(kBegin + global("builtins", "eval") + "."), format, "asks for builtins.eval");
  EXPECT_ERROR(read(kBegin + global("torch", "load") + "."), format, "asks for torch.load");
  EXPECT_ERROR(read(kBegin + global("__builtin__", "getattr") + "."), format, "__builtin__.getattr");
  // A name of the list under a module of one's own, and one with a dot in it, are other names.
  EXPECT_ERROR(read(kBegin + global("mine.collections", "OrderedDict") + "."), format, "mine.collections.OrderedDict");
  EXPECT_ERROR(read(kBegin + global("torch.Size.__init__", "__globals__") + "."), format, "__globals__");
}

TEST(Pickle, NamesTheOpcodeThatItRefuses) {
  for (const auto& [code, name] : {std::pair("i", "INST"),
                                   {"o", "OBJ"},
                                   {"P", "PERSID"},
                                   {"\x82", "EXT1"},
                                   {"\x84", "EXT4"},
                                   {"\x92", "NEWOBJ_EX"},
                                   {"I", "INT"},
                                   {"S", "STRING"},
                                   {"2", "DUP"},
                                   {"\x98", "READONLY_BUFFER"}})
    EXPECT_ERROR(read(kBegin + "N" + code + "1\n."), format, std::string("opcode ") + name);
  EXPECT_ERROR(read(kBegin + "\xff"), format, "opcode 0xff");
  EXPECT_ERROR(read(kBegin + "NQ."), format, "BINPERSID");
  EXPECT_ERROR(read(std::string("\x80\x01N.", 4)), format, "protocol 1");
  EXPECT_ERROR(read(std::string("\x80\x06N.", 4)), format, "protocol 6");
}

TEST(Pickle, CallsNothingButWhatIsForCalling) {
  EXPECT_ERROR(read(kBegin + global("torch", "FloatStorage") + ")R."), format, "not for calling");
  EXPECT_ERROR(read(kBegin + text("os.system") + ")R."), format, "want a global");
  EXPECT_ERROR(read(kBegin + global("torch", "Size") + "NR."), format, "want a tuple");
  EXPECT_ERROR(read(kBegin + "]}b."), format, "gives a state to a list");
  EXPECT_ERROR(read(kBegin + "]K\1K\2s."), format, "want a dict");
  EXPECT_ERROR(read(kBegin + "}K\1a."), format, "want a list");
  EXPECT_ERROR(read(kBegin + "}(K\1u."), format, "want keys with values");
}

TEST(Pickle, EndsWhereverItIsCut) {
  const std::string whole = kBegin + "}(" + text("weight") + global("torch._utils", "_rebuild_tensor_v2") +
                            "(K\x03\x8a\x02\x10\x27M\x01\x02J\1\1\1\1G12345678NtRq\x01" + text("bias") + "h\x01u.";
  ASSERT_TRUE(read(whole).root().is(Kind::dict));
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const Error error = test::thrown([&] { read(whole.substr(0, cut)); });
    EXPECT_EQ(error.kind(), ErrorKind::format) << cut;
  }
}

TEST(Pickle, ChecksSizesBeforeItAllocates) {
  EXPECT_ERROR(read(kBegin + "X" + little(0xffffffff, 4) + "ab."), format, "truncated");
  EXPECT_ERROR(read(kBegin + "\x8d" + little(~uint64_t{0}, 8) + "ab."), format, "truncated");
  EXPECT_ERROR(read(kBegin + "\x8e" + little(uint64_t{1} << 62, 8) + "ab."), format, "truncated");
  EXPECT_ERROR(read(kBegin + "\x8b" + little(0x80000000, 4) + "."), format, "negative length");
  EXPECT_ERROR(read(kBegin + "Nr" + little(0xffffffff, 4) + "."), format, "remembers value 4294967295");
  EXPECT_ERROR(read(kBegin + "h\x05."), format, "never stored");
  EXPECT_ERROR(read(kBegin + text("\xc3\x28") + "."), format, "not UTF-8");
}

TEST(Pickle, BoundsWhatItMakes) {
  std::string lists = kBegin;
  lists.append(1000, ']');
  EXPECT_ERROR(read(lists, {.nodes = 100}), format, "more than 100 values");
  std::string stack = kBegin + "]q\x01";
  for (int i = 0; i < 1000; ++i) stack += "h\x01";
  EXPECT_ERROR(read(stack, {.references = 100}), format, "stacks more than 100");
  std::string marks = kBegin;
  marks.append(1000, '(');
  EXPECT_ERROR(read(marks, {.nodes = 100}), format, "nests deeper than 100");
  // Each set is made of all of the list: bytes grow by five, references by a thousand.
  std::string sets = kBegin + global("builtins", "set") + "q\x01](";
  for (int i = 0; i < 1000; ++i) sets += "K\1";
  sets += "e\x85q\x02";
  for (int i = 0; i < 1000; ++i) sets += "h\1h\2R";
  EXPECT_ERROR(read(sets, {.references = 100'000}), format, "more than 100000 references");
  EXPECT_ERROR(read(kBegin + "N.", {.bytes = 3}), format, "want at most 3");
}

TEST(Pickle, TakesWhatRefersToItselfAndWhatIsNestedDeep) {
  const Pickle itself = read(kBegin + "]q\x01h\x01" + "a.");
  EXPECT_EQ(itself.root().items[0], &itself.root());
  EXPECT_EQ(describe(itself.root()), "a list of 1");
  std::string deep = kBegin;
  for (int i = 0; i < 200'000; ++i) deep += "]";
  for (int i = 0; i < 199'999; ++i) deep += "a";
  const Pickle pickle = read(deep + ".");  // neither reading nor freeing it recurses
  EXPECT_EQ(pickle.root().items.size(), 1u);
}

}  // namespace
}  // namespace ft
