// Package errors holds the error type of the SDK.
package errors

// TencentCloudSDKError is what the SDK's calls fail with.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string { return "the SDK is not part of this build" }
