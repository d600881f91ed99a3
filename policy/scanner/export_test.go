package scanner

// The names of a signature file, for the test of its documentation.
func FieldNames() []string { return fieldNames() }
func MatchNames() []string { return matchNames() }
func ShapeNames() []string { return shapeNames() }
