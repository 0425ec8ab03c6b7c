--- ft.tokenizer(DIR) -> Tokenizer: encode(text, add_special_tokens), decode(ids, skip_special_tokens), token_id(text).
return require("ft.native").tokenizer
