package compiler

import "testing"

func TestTriggerWithAComment(t *testing.T) {
	cmd, err := parseTrigger("# check=skip=all\nMAINTAINER x")
	if err == nil {
		t.Errorf("MAINTAINER is a trigger: %v", cmd)
	}
	if _, err := parseTrigger("# check=skip=all\nRUN true"); err != nil {
		t.Error(err)
	}
}
