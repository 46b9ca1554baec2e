// Package common stands in for a cloud provider's SDK that one backend of flannel links, and that no case uses: it has the names that the
// backend needs to compile.
package common

// StringPtr gives the address of a text.
func StringPtr(value string) *string { return &value }

// StringPtrs gives the address of each text.
func StringPtrs(values []string) []*string {
	pointers := make([]*string, len(values))
	for i := range values {
		pointers[i] = &values[i]
	}
	return pointers
}

// BoolPtr gives the address of a value.
func BoolPtr(value bool) *bool { return &value }
