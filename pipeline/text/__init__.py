"""Text to tokens to ids and back, in Arrow and without torch: `tokens`, `rows` and `splits`,
`vocab` and `bpe`, `encode`."""
