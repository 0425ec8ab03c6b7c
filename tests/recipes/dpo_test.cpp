// recipes/dpo.lua against TRL (tests/golden/dpo.py): the same losses and rewards, step by step, on one rank and two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/recipes/small_model.h"

namespace ft::test {
namespace {

using testing::HasSubstr;

fs::path golden(const std::string& name) { return fs::path(ft_source_dir()) / "tests/golden" / name; }

class Dpo : public testing::Test {
 protected:
  /// The recipe with SGD in place of AdamW, at the golden rate, in fp32 and in the order of the file.
  fs::path exact_recipe() {
    return recipe("dpo.lua", folder_.path(),
                  {{"quantize = opt.quantize }", "quantize = opt.quantize, compute = \"fp32\" }"},
                   {"split = \"train\" }", "split = \"train\", shuffle = false }"},
                   {"ft.adamw { lr = opt.lr, schedule = ft.linear { warmup = 0.1 } }",
                    "ft.sgd { lr = opt.lr, schedule = ft.constant {} }"},
                   {"run:clip(1.0)", "run:clip(1e9)"}});
  }
  Finished train(const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> words{"run",
                                   exact_recipe().string(),
                                   "--model=" + golden("adapters/base_untied").string(),
                                   "--from=" + golden("dpo").string(),
                                   "--data=" + golden("dpo/pairs.jsonl").string(),
                                   "--out=" + out,
                                   "--rows=2",
                                   "--seq_len=32",
                                   "--micro=1",
                                   "--epochs=2.5"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words, folder_.path());
  }
  TemporaryDirectory folder_;
};

TEST_F(Dpo, LossesAndRewardsAreTrls) {
  const Json measured = Json::parse(slurp(golden("dpo/measured.json")));
  const std::string beta = "--beta=" + std::to_string(measured.at("beta").get<double>()),
                    lr = "--lr=" + std::to_string(measured.at("lr").get<double>());
  for (const char* kind : {"plain", "smoothed"})
    for (const char* ranks : {"1", "2"}) {
      const std::string out = std::string(kind) + ranks;
      std::vector<std::string> more{beta, lr, std::string("--nproc=") + ranks};
      if (std::string(kind) == "smoothed") more.push_back("--smoothing=0.1");
      const Finished done = train(out, more);
      ASSERT_EQ(done.exit_code, 0) << done.err;
      const auto rows = metrics(folder_ / out);
      const Json& wanted = measured.at(kind);
      ASSERT_EQ(rows.size(), wanted.size());
      for (size_t i = 0; i < rows.size(); ++i)
        for (const auto& [key, value] : wanted[i].items())
          EXPECT_NEAR(rows[i].at(key).get<double>(), value.get<double>(), 1e-5)
              << out << ", step " << i + 1 << ", " << key;
      EXPECT_LT(rows.back().at("loss").get<double>(), rows.front().at("loss").get<double>());
    }
  // The gate notices a beta that is 1 % off.
  const Finished other = train("other", {"--beta=0.303", lr, "--nproc=1"});
  ASSERT_EQ(other.exit_code, 0) << other.err;
  EXPECT_GT(std::abs(metrics(folder_ / "other").back().at("loss").get<double>() -
                     measured.at("plain").back().at("loss").get<double>()),
            1e-5);
}

// Held-out pairs are measured as those of a step are, on any number of ranks: three pairs leave one of two without any.
TEST_F(Dpo, MeasuresHeldOutPairsAsItMeasuresAStep) {
  std::string three = slurp(golden("dpo/pairs.jsonl"));
  three.resize(three.rfind('\n', three.size() - 2) + 1);
  spill(folder_ / "three.jsonl", three);
  const fs::path file = exact_recipe();
  std::string text = slurp(file);
  const std::string held = "ft.preference { opt.data, seq_len = opt.seq_len, split = opt.val }";
  text.replace(text.find(held), held.size(), "ft.preference { \"three.jsonl\", seq_len = opt.seq_len }");
  spill(folder_ / "held.lua", text);
  const auto measured = [&](const char* ranks, const char* rows, const char* micro) {
    const std::string out = std::string("run") + ranks;
    const Finished done =
        run({"run", "held.lua", "--model=" + golden("adapters/base_untied").string(),
             "--from=" + golden("adapters/patterns").string(), "--data=three.jsonl", "--out=" + out, "--seq_len=32",
             "--beta=0.3", "--lr=1e-30", "--val=0.5", "--epochs=1", std::string("--rows=") + rows,
             std::string("--micro=") + micro, std::string("--nproc=") + ranks},
            folder_.path());
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.exit_code == 0 ? metrics(folder_ / out).back() : Json();
  };
  const Json one = measured("1", "3", "3");
  for (const Json& row : {one, measured("2", "2", "1")})
    for (const auto& [key, trained] : {std::pair("val_loss", "loss"),
                                       {"val_rewards/chosen", "rewards/chosen"},
                                       {"val_rewards/rejected", "rewards/rejected"},
                                       {"val_rewards/margins", "rewards/margins"},
                                       {"val_rewards/accuracies", "rewards/accuracies"}})
      EXPECT_NEAR(row.at(key).get<double>(), one.at(trained).get<double>(), 1e-6) << key;
  EXPECT_GT(std::abs(one.at("val_rewards/margins").get<double>()), 1e-3) << "the adapter is not the reference";
}

TEST_F(Dpo, RefusesWhatHasNoReference) {
  const fs::path file = exact_recipe();
  std::string text = slurp(file);
  const std::string adapter = "ft.lora { from = opt.from }";
  text.replace(text.find(adapter), adapter.size(), "ft.lora { r = 2, modules_to_save = { \"norm\" } }");
  spill(file, text);
  const Finished done =
      run({"run", file.string(), "--model=" + golden("adapters/base_untied").string(), "--from=x",
           "--data=" + golden("dpo/pairs.jsonl").string(), "--nproc=1", "--rows=2", "--seq_len=32", "--micro=1"},
          folder_.path());
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.err, HasSubstr("no reference left"));
}

TEST_F(Dpo, RefusesRowsThatAreNoPairs) {
  for (const auto& [row, what] :
       {std::pair<const char*, const char*>{R"({"prompt_ids": [1], "chosen_ids": [2]})", "has no 'rejected_ids'"},
        {R"({"prompt": "a", "chosen": "b", "rejected": "c"})", "no tokenizer.json"}}) {
    spill(folder_ / "pairs.jsonl", std::string(row) + "\n");
    const Finished done = train("bad", {"--data=" + (folder_ / "pairs.jsonl").string(), "--nproc=1"});
    EXPECT_EQ(done.exit_code, 1);
    EXPECT_THAT(done.err, HasSubstr(what));
    EXPECT_THAT(done.err, HasSubstr("pairs.jsonl:1"));
  }
}

// Texts and messages make the same pairs as their tokens do.
TEST_F(Dpo, ReadsTextsAndMessages) {
  const fs::path model = pretrained(folder_.path());
  spill(model / "chat_template.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  spill(folder_ / "texts.jsonl", R"({"prompt": "the quick", "chosen": " brown fox", "rejected": " dog"})"
                                 "\n"
                                 R"({"prompt": "a", "chosen": " b", "rejected": " c d"})"
                                 "\n");
  spill(
      folder_ / "chats.jsonl",
      R"({"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}], "rejected": [{"role": "assistant", "content": "c d"}]})"
      "\n"
      R"({"chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c d"}]})"
      "\n");
  for (const char* file : {"texts.jsonl", "chats.jsonl"}) {
    const Finished done =
        run({"run", exact_recipe().string(), "--model=" + model.string(), "--data=" + (folder_ / file).string(),
             "--rows=2", "--micro=2", "--rank=2", "--seq_len=128", "--lr=0.1", "--epochs=3", "--nproc=1",
             "--out=" + (folder_ / (std::string(file) + ".run")).string()},
            folder_.path());
    ASSERT_EQ(done.exit_code, 0) << done.err;
    const auto rows = metrics(folder_ / (std::string(file) + ".run"));
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_NEAR(rows[0].at("loss").get<double>(), std::log(2.0), 1e-6);  // a new adapter is the reference
    EXPECT_LT(rows[2].at("loss").get<double>(), rows[0].at("loss").get<double>());
  }
}

}  // namespace
}  // namespace ft::test
