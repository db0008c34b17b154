package compiler

import (
	"context"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/strata-build/strata/schema"
)

// expander replaces $VAR in the words of a step that asks for it, by the
// rules of a Dockerfile, where quotes and backslashes count too. The zero
// expander leaves every word as it is.
type expander struct {
	on  bool
	env *llb.EnvList
}

// refresh takes the environment that the stage has now.
func (x *expander) refresh(ctx context.Context, s *stage) (err error) {
	if x.on {
		x.env, err = s.env(ctx)
	}
	return err
}

// expander is the one for a step at this point.
func (s *stage) expander(ctx context.Context, step *schema.Step) (expander, error) {
	x := expander{on: step.Expand}
	if err := x.refresh(ctx, s); err != nil {
		return x, because(step.Pos, err, "read the environment")
	}
	return x, nil
}

func (x expander) word(word string) (string, error) {
	if !x.on {
		return word, nil
	}
	out, _, err := shell.NewLex('\\').ProcessWord(word, x.env)
	return out, err
}

// text expands the content of a file, in which quotes do not count.
func (x expander) text(text string) (string, error) {
	if !x.on {
		return text, nil
	}
	lex := shell.NewLex('\\')
	lex.SkipProcessQuotes = true
	out, _, err := lex.ProcessWord(text, x.env)
	return out, err
}

// words expands each word to as many as it has then.
func (x expander) words(words []string) ([]string, error) {
	if !x.on {
		return words, nil
	}
	var out []string
	for _, w := range words {
		list, err := shell.NewLex('\\').ProcessWords(w, x.env)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

func (x expander) list(words []string) ([]string, error) {
	out := make([]string, len(words))
	for i, w := range words {
		var err error
		if out[i], err = x.word(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// vars expands names and values.
func (x expander) vars(vars []schema.Var) ([]schema.Var, error) {
	out := make([]schema.Var, len(vars))
	for i, v := range vars {
		var err error
		if v.Name, err = x.word(v.Name); err != nil {
			return nil, err
		}
		if v.Value, err = x.word(v.Value); err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// inPlace expands words where they are.
func (x expander) inPlace(words ...*string) error {
	for _, w := range words {
		out, err := x.word(*w)
		if err != nil {
			return err
		}
		*w = out
	}
	return nil
}
