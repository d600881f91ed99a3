package conf

// KeyDoc is what the documentation has to say about a key.
type KeyDoc struct {
	Name, Type, Default, Variable string
	Restart, Part                 bool
}

// KeyDocs lists every key, those inside the items of a list as pbx[].weight.
func KeyDocs() []KeyDoc {
	var docs []KeyDoc
	for _, k := range schema() {
		def := k.def
		switch k.name {
		case "pbx":
			def = "none"
		case "token_key_file":
			def = "token.key in state_dir"
		case "scanner.block_time":
			def = "register.block_time"
		}
		docs = append(docs, KeyDoc{k.name, k.typ, def, k.variable(), k.restart, false})
		for _, p := range k.parts {
			if p.def == "" {
				p.def = "none"
			}
			docs = append(docs, KeyDoc{k.name + "[]." + p.name, p.typ, p.def, k.variable(), k.restart, true})
		}
	}
	return docs
}

// FileKeys returns the keys that a file gives, without their values.
func FileKeys(text []byte) ([]string, error) {
	rep := &report{file: "file"}
	root := readYAML(rep, text)
	if root == nil {
		return nil, rep.problems
	}
	var names []string
	for name, n := range flatten(rep, schema(), root) {
		names = append(names, name)
		for _, item := range n.items {
			names = append(names, fieldNames(name+"[].", item)...)
		}
	}
	if len(rep.problems) > 0 {
		return nil, rep.problems
	}
	return names, nil
}

func fieldNames(prefix string, n *node) []string {
	var names []string
	for _, f := range n.fields {
		if f.value.shape == shapeMap {
			names = append(names, fieldNames(prefix+f.name+".", f.value)...)
			continue
		}
		names = append(names, prefix+f.name)
	}
	return names
}
