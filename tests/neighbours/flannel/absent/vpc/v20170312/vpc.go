// Package v20170312 stands in for a cloud provider's SDK, as package common does. Every call is an error.
package v20170312

import "errors"

var absent = errors.New("the SDK is not part of this build")

// Client makes no calls.
type Client struct{}

// Filter selects route tables.
type Filter struct {
	Name   *string
	Values []*string
}

// Route is one route of a table.
type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayId            *string
	GatewayType          *string
	RouteType            *string
	Enabled              *bool
}

// RouteTable is a table of routes.
type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

// DescribeRouteTablesRequest asks for tables.
type DescribeRouteTablesRequest struct{ Filters []*Filter }

// DescribeRouteTablesResponse lists tables.
type DescribeRouteTablesResponse struct {
	Response *struct{ RouteTableSet []*RouteTable }
}

// CreateRoutesRequest adds routes to a table.
type CreateRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

// DeleteRoutesRequest removes routes of a table.
type DeleteRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

// NewClientWithSecretId gives a client that makes no calls.
func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

// NewDescribeRouteTablesRequest gives an empty request.
func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest { return &DescribeRouteTablesRequest{} }

// NewCreateRoutesRequest gives an empty request.
func NewCreateRoutesRequest() *CreateRoutesRequest { return &CreateRoutesRequest{} }

// NewDeleteRoutesRequest gives an empty request.
func NewDeleteRoutesRequest() *DeleteRoutesRequest { return &DeleteRoutesRequest{} }

// DescribeRouteTables fails.
func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, absent
}

// CreateRoutes fails.
func (*Client) CreateRoutes(*CreateRoutesRequest) (*struct{}, error) { return nil, absent }

// DeleteRoutes fails.
func (*Client) DeleteRoutes(*DeleteRoutesRequest) (*struct{}, error) { return nil, absent }
