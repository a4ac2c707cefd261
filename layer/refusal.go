package layer

// A refusal is an error that says all itself, and bears a kind.
type refusal struct {
	why  string
	kind error
}

func (e *refusal) Error() string { return e.why }
func (e *refusal) Unwrap() error { return e.kind }
